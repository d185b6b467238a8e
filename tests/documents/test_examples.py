"""The example configs run as they are, but for a tiny encoder and fewer rows."""

import json
from itertools import islice
from pathlib import Path

import optuna
import pytest
import yaml
from transformers import pipeline

from hf_multitask import MultiTaskModel, RunConfig, run_training
from hf_multitask.runs.training import run_plan
from tests.conftest import MINILM
from tests.documents.files import write_bundled

FOLDER = Path(__file__).parents[2] / "examples"
# On public datasets: tests/training/test_several_datasets.py.
ON_OTHER_DATA = ["wnut17-clinc150", "wnut17-clinc150-private"]
EXAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in ON_OTHER_DATA)

NOTEBOOK = FOLDER / "trainer_tour.py"

STAGES = {
    "bitfit": ["biases"],
    "converged": ["converged"],
    "encoder-frozen": ["heads"],
    "entities-head-frozen-safe": ["joint", "topic head"],
    "entities-head-frozen-risky": ["joint", "topic only"],
    "gradual": ["heads", "encoder.2", "encoder.1", "encoder.0", "embeddings"],
    "guided": ["heads", "upper layers", "all"],
    "heads-then-all": ["heads", "all"],
    "lora": ["heads", "all"],
    "nothing-frozen": ["all"],
    "progressive": ["heads", "encoder.2", "encoder.1", "encoder.0", "embeddings"],
    "three-stage": ["heads", "upper third", "all"],
    "three-stage-embeddings-frozen": ["heads", "upper third", "all"],
    "top-2": ["top 2"],
    "topic-head-frozen-safe": ["joint", "entities head"],
    "topic-head-frozen-risky": ["joint", "entities only"],
}


@pytest.fixture
def config(request, encoder, tmp_path):
    """Return an example's config with the tiny encoder and the first rows of each split."""
    path = request.param
    overrides = {"encoder": str(encoder), "output_dir": str(tmp_path / "out"), "training.disable_tqdm": True}
    for split, source in yaml.safe_load(path.read_text())["data"].items():
        with (FOLDER / source).open(encoding="utf-8") as file:
            (tmp_path / f"{split}.jsonl").write_text("".join(islice(file, 160)), encoding="utf-8")
        overrides[f"data.{split}"] = str(tmp_path / f"{split}.jsonl")
    overrides["data.unseen_labels"] = "ignore"
    return RunConfig.from_file(path, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("config", EXAMPLES, ids=lambda path: path.stem, indirect=True)
def test_an_example_runs_through_its_stages(config, request, tmp_path, caplog):
    name = request.node.callspec.id
    metrics = run_training(config)
    assert 0 <= metrics["test"]["topic_accuracy"] <= 1
    if name == "everything-frozen":
        assert "nothing will be learned" in caplog.text
        return
    stages = json.loads((tmp_path / "out" / "stages.json").read_text())["stages"]
    names = [stage["name"] for stage in stages]
    assert names == STAGES[name][: len(names)]
    unreached = STAGES[name][len(names) :]
    assert not unreached or f"the run ended before stage {', '.join(unreached)}" in caplog.text
    assert [stage.name for stage in run_plan(config)] == STAGES[name]


def test_each_example_is_listed():
    listed = (FOLDER / "README.md").read_text()
    assert all(f"({path.name})" in listed for path in FOLDER.glob("*.yaml"))
    assert {path.stem for path in EXAMPLES} == {*STAGES, "everything-frozen"}


@pytest.mark.slow
def test_the_notebook_trains_searches_saves_loads_and_predicts(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    write_bundled(tmp_path / "data", 60)
    cells = NOTEBOOK.read_text(encoding="utf-8")
    for part, replacement in {
        MINILM: str(encoder),
        'QUICKSTART_CONFIG.parent / "data"': 'Path("data")',
        "from transformers import pipeline": "from pathlib import Path\nfrom transformers import pipeline",
        "EPOCHS = 4": "EPOCHS = 2",
        "n_trials=3": "n_trials=2",
    }.items():
        assert part in cells
        cells = cells.replace(part, replacement)
    names = {"__name__": "__main__"}
    exec(compile(cells, str(NOTEBOOK), "exec"), names)
    assert [stage.name for stage in names["trainer"].freeze_schedule.stages]
    assert {"learning_rate", "head", "freeze"} == names["best"].hyperparameters.keys()
    saved = MultiTaskModel.from_pretrained("out/tour/model")
    assert saved.config.tasks[1].head == names["best"].hyperparameters["head"]
    assert saved.config.adapters
    # Together, as the notebook predicts them: one text by itself is rounded otherwise.
    texts = ["Ada Lovelace wrote the first program in London.", "The match ended in a draw."]
    again = pipeline("multi-task", model="out/tour/model")(texts)
    assert all(answer.keys() == {"topic", "entities"} for answer in again)
    printed = capsys.readouterr().out
    assert all(str(answer["topic"]) in printed for answer in again)
