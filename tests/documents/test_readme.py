"""The README's examples run as they are written."""

import json
import re
from pathlib import Path

import datasets
import pytest
import yaml

from hf_multitask import DataConfig, MultiTaskModel, Sampling, TaskConfig, prepare_datasets
from hf_multitask.freezing import build_schedule
from tests.documents.blocks import ROOT, claim, run_commands, run_python, write_yaml
from tests.documents.files import write_conll, write_csv
from tests.tiny import ROWS

README = "README.md"
TRAINER = claim(README, "python", "MultiTaskTrainer(")
CONFIG = claim(README, "yaml", "# snips.yaml")
COMMANDS = claim(README, "bash", "hf-multitask train snips.yaml")
PIPELINE = claim(README, "python", "requests.txt")
FILES = claim(README, "bash", "--keep id")
EXPORT = claim(README, "bash", "hf-multitask export")
TASKS_CHANGED = claim(README, "python", "export_task(")
HEADS = claim(README, "yaml", "head: lstm")
DATA_SETS = claim(README, "yaml", "sampling:")
STAGES = claim(README, "yaml", "restore_best")
PLAN = claim(README, "bash", "hf-multitask plan")
STUDY = claim(README, "bash", "hf-multitask study")
PLAIN_TRAINER = claim(README, "python", "FreezeCallback(")
SCORES = claim(README, "bash", "scores-2e-4.json")
MIX = claim(README, "bash", "benchmark.py mix")


@pytest.fixture
def folder(tmp_path, write_jsonl, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, rows in (("train", ROWS), ("validation", ROWS[:8]), ("test", ROWS[8:])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    return tmp_path


@pytest.fixture
def save_model(folder, encoder, data, tokenizer):
    """Return a function that saves a tiny model of the README's tasks to a folder."""

    def save(path):
        MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained(path)
        tokenizer.save_pretrained(path)

    return save


def test_the_python_example(folder, capsys):
    run_python(TRAINER)
    assert (folder / "out" / "intents" / "model.safetensors").is_file()
    intents = "|".join({row["intent"] for row in ROWS})
    assert re.search(rf"^({intents}) [01]\.\d+$", capsys.readouterr().out, flags=re.MULTILINE)


def test_the_pipeline_example(save_model, capsys):
    save_model("out/intents")
    Path("requests.txt").write_text("play jazz\nrain in rome\n", encoding="utf-8")
    run_python(PIPELINE)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_example_of_one_head_out_and_new_ones_in(save_model):
    save_model("out/model")
    names = {"model": MultiTaskModel.from_pretrained("out/model"), "TaskConfig": TaskConfig}
    run_python(TASKS_CHANGED, names)
    assert [task.name for task in names["model"].config.tasks] == ["places", "mood"]
    assert Path("out/slots/config.json").is_file()
    assert Path("out/encoder/modules.json").is_file()


def test_the_tasks_of_the_heads_example():
    values = yaml.safe_load(HEADS.text)
    tasks = [TaskConfig.from_dict(task) for task in values["tasks"]]
    assert (tasks[1].head, tasks[1].mix_layers, tasks[1].crf) == ("lstm", True, True)
    assert values["training"] == {"ema_decay": 0.99}


def test_the_data_sets_of_the_data_example(folder, tokenizer):
    for split, rows in (("train", ROWS), ("valid", ROWS[:8])):
        write_conll(rows, folder / f"{split}.conll")
        write_csv(rows, folder / f"{split}.csv")
    values = yaml.safe_load(DATA_SETS.text)
    tasks = [TaskConfig("ner", "token_classification"), TaskConfig("intent", "sequence_classification")]
    data = prepare_datasets([DataConfig(**data_set) for data_set in values["data"]], tokenizer, tasks)
    assert len(data["train"]) == 2 * len(ROWS)
    assert Sampling(**values["sampling"]).strategy == "temperature"


def test_the_stages_of_the_yaml_example(model):
    stages = yaml.safe_load(STAGES.text)["freeze"]
    schedule = build_schedule(stages, model.layer_groups(), num_train_epochs=8)
    assert [stage.name for stage in schedule.stages] == ["heads", "upper layers", "all but the intent head"]


def test_the_example_of_a_plain_trainer(folder, encoder):
    rows = [{"input_ids": [0, 5 + i, 9, 2], "labels": i % 3} for i in range(12)]
    run_python(PLAIN_TRAINER, {"encoder": str(encoder), "train_dataset": datasets.Dataset.from_list(rows)})
    stages = json.loads((folder / "out" / "stock" / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "all"]


@pytest.mark.slow
def test_the_commands_on_the_example_config(folder):
    write_yaml(CONFIG)
    torchrun = "torchrun --nproc_per_node 2 -m hf_multitask train snips.yaml"
    run_commands(COMMANDS, {torchrun: f"{torchrun} --overwrite --training.use_cpu true"})
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == len(ROWS[8:])


def test_the_plan_of_the_example_config(folder, capsys):
    write_yaml(CONFIG)
    run_commands(PLAN)
    assert {"heads", "third", "all"} <= set(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_advice_and_the_study_of_the_example_config(folder, encoder):
    write_yaml(
        CONFIG, {"sentence-transformers/all-MiniLM-L6-v2": str(encoder), "num_train_epochs: 5": "num_train_epochs: 1"}
    )
    run_commands(STUDY, {"--seeds 3 --sizes 100,all": "--seeds 1 --sizes 8,all"})
    assert yaml.safe_load(Path("recommended.yaml").read_text())["tasks"][0]["name"] == "intent"
    assert len(json.loads(Path("out/snips-study/study.json").read_text())["scenarios"]) == 3


@pytest.mark.slow
def test_the_commands_that_predict_a_file(save_model, write_jsonl):
    save_model("out/snips")
    rows = [{"id": i, "text": f"play song {i}"} for i in range(5)]
    write_jsonl([*rows, {"id": 5}], Path("requests.jsonl"))
    # The second command would find the output of the first.
    run_commands(FILES, {"predictions.jsonl\n": "again.jsonl --on-error skip\n"})
    found, again = (
        [json.loads(line) for line in Path(name).read_text().splitlines()]
        for name in ("predictions.jsonl", "again.jsonl")
    )
    assert [row.pop("id") for row in found] == [row["id"] for row in rows]
    assert len(again) == len(found)


@pytest.mark.slow
def test_the_export_command(save_model, capsys):
    save_model("out/snips")
    run_commands(EXPORT)
    assert Path("out/snips/onnx/model_int8.onnx").is_file()
    assert "intent_accuracy" in capsys.readouterr().out


def test_the_benchmarks_of_the_scores(folder, encoder, benchmark):
    programs = {"python scripts/benchmark.py": benchmark}
    run_commands(
        SCORES, {"--data ../shared/data/snips": f"--data . --encoder {encoder} --epochs 1 --seeds 0"}, programs
    )
    assert json.loads(Path("scores.json").read_text())["benchmark"] == "scores"
    files = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": [{"tasks": [task], **files} for task in ("intent", "slots")],
        "training": {"num_train_epochs": 1, "use_cpu": True},
        "output_dir": "out/mix",
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(config))
    run_commands(MIX, {"examples/wnut17-clinc150.yaml --seeds 0 1 2 3 4": "mix.yaml --seeds 0"}, programs)
    assert json.loads(Path("mix.json").read_text())["benchmark"] == "mix"


def test_the_readme_opens_with_the_two_commands():
    readme = (ROOT / README).read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith(("make ", "hf-", "pip "))]
    assert [command.split()[1] for command in commands[:2]] == ["quickstart", "test"]
