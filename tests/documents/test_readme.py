"""The README's examples run as they are written."""

import json
import shutil
from pathlib import Path

import pytest

from hf_multitask import MultiTaskModel
from tests.conftest import MINILM
from tests.documents.blocks import ROOT, claim, run_commands, run_python, write_yaml
from tests.documents.files import write_bundled
from tests.tiny import ROWS

README = "README.md"
TRAINER = claim(README, "python", "MultiTaskTrainer(")
STAGES = claim(README, "yaml", "# stages.yaml")
PLAN = claim(README, "bash", "hf-multitask plan")
CONFIG = claim(README, "yaml", "# snips.yaml")
COMMANDS = claim(README, "bash", "hf-multitask train snips.yaml")
THREE_COMMANDS = claim(README, "bash", "hf-multitask init rows.csv ")
FIRST_CONFIG = claim(README, "yaml", "# Written by hf-multitask init")
JOINT = claim(README, "bash", "hf-multitask init entities.conll")


@pytest.mark.slow
def test_the_python_example(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_bundled(tmp_path / "bundled", num_rows=60)
    run_python(TRAINER, changes={MINILM: str(encoder), "hf_multitask/quickstart/data": "bundled"})
    assert (tmp_path / "out" / "first" / "model.safetensors").is_file()
    stages = json.loads((tmp_path / "out" / "first" / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "all"]
    assert capsys.readouterr().out.splitlines()[-1].split()[0] in ("Other", "Technology", "Weather", *LABELS)


LABELS = ("ORG", "PRODUCT", "LOC", "DATE", "PERSON")


def test_the_plan_of_the_stages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "hf_multitask" / "quickstart", tmp_path / "hf_multitask" / "quickstart")
    write_yaml(STAGES)
    monkeypatch.setenv("COLUMNS", "118")
    run_commands(PLAN)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line[:1] in "┏┃┡│└"]
    shown = (ROOT / README).read_text(encoding="utf-8").partition("hf-multitask plan")[2]
    assert printed == [line for line in shown.splitlines() if line[:1] and line[:1] in "┏┃┡│└"]


@pytest.mark.slow
def test_the_commands_on_the_example_config(folder):
    write_yaml(CONFIG)
    torchrun = "torchrun --nproc_per_node 2 -m hf_multitask train snips.yaml"
    run_commands(COMMANDS, {torchrun: f"{torchrun} --overwrite --training.use_cpu true"})
    predictions = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == len(ROWS[8:])


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Write the files of a newcomer."""
    monkeypatch.chdir(tmp_path)
    kinds = {"billing": "my invoice is wrong", "delivery": "the parcel is late", "praise": "what a great service"}
    lines = [f"{i},{text} {i},{kind}" for i in range(0, 120, 3) for i, (kind, text) in enumerate(kinds.items(), i)]
    Path("rows.csv").write_text("\n".join(["id,message,kind", *lines]) + "\n")
    Path("entities.conll").write_text("Anna B-PER\nlives O\nin O\nParis B-LOC\n\nwe O\nleft O\nRome B-LOC\n\n" * 20)
    Path("new.txt").write_text("where is my parcel\nthank you\n")
    return tmp_path


@pytest.mark.slow
def test_three_commands_from_rows_to_predictions(rows, encoder):
    run_commands(THREE_COMMANDS, {"init rows.csv ": f"init rows.csv --encoder {encoder} "})
    predictions = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert [row["kind"]["label"] in ("billing", "delivery", "praise") for row in predictions] == [True, True]


def test_the_first_config_is_the_one_that_is_shown(rows):
    run_commands(THREE_COMMANDS, {THREE_COMMANDS.text.partition("\n")[2]: ""})
    assert Path("config.yaml").read_text() == FIRST_CONFIG.text


@pytest.mark.slow
def test_two_files_make_one_model(rows, encoder):
    short = "joint.yaml --training.num_train_epochs 1"
    given = f"rows.csv --encoder {encoder}"
    run_commands(JOINT, {"train joint.yaml": f"train {short}", "rows.csv": given})
    tasks = MultiTaskModel.from_pretrained("out/entities-rows").config.tasks
    assert [task.name for task in tasks] == ["ner", "kind"]


def test_the_readme_opens_with_the_two_commands():
    readme = (ROOT / README).read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith(("make ", "hf-", "pip "))]
    assert [command.split()[1] for command in commands[:2]] == ["quickstart", "test"]
