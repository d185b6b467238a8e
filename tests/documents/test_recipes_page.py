"""The recipes of docs/RECIPES.md run as they are written, with a tiny encoder and few rows."""

import csv
import json
from pathlib import Path

import pytest
import torch

from hf_multitask import MultiTaskModel
from tests.conftest import MINILM
from tests.documents.blocks import claim, run_commands, run_python, write_yaml
from tests.documents.files import write_bundled
from tests.tiny import ROWS

PAGE = "docs/RECIPES.md"
DOMAIN_DATA = claim(PAGE, "bash", "clinc150/train.csv")
GENERAL = claim(PAGE, "yaml", "# general.yaml")
BANK = claim(PAGE, "yaml", "# bank.yaml")
TRAIN_BANK = claim(PAGE, "bash", "hf-multitask plan bank.yaml")
FORGETTING = claim(PAGE, "python", "run_evaluation(")
SAMPLE = claim(PAGE, "bash", "general/sample.jsonl")
MIXED = claim(PAGE, "yaml", "# bank-mixed.yaml")
TRAIN_MIXED = claim(PAGE, "bash", "hf-multitask train bank-mixed.yaml")
TRAIN_HEAD = claim(PAGE, "bash", "--output_dir out/bank-head")
ADD_TASK = claim(PAGE, "python", "model.add_task(")
SAME_ANSWERS = claim(PAGE, "python", "torch.equal(")
ENTITIES_FIRST = claim(PAGE, "yaml", "# entities-first.yaml")
TRAIN_ENTITIES = claim(PAGE, "bash", "entities-first.yaml")
FEW_DATA = claim(PAGE, "bash", "few/train.jsonl")
FEW = claim(PAGE, "yaml", "# few.yaml")
TRAIN_FEW = claim(PAGE, "bash", "hf-multitask train few.yaml")
FEW_FOLDS = claim(PAGE, "yaml", "# few-folds.yaml")
TRAIN_FOLDS = claim(PAGE, "bash", "hf-multitask train few-folds.yaml")
UNLABELED = claim(PAGE, "bash", "few/unlabeled.jsonl")
TEACHER = claim(PAGE, "yaml", "# teacher.yaml")
STUDENT = claim(PAGE, "yaml", "# student.yaml")
TRAIN_STUDENT = claim(PAGE, "bash", "hf-multitask train student.yaml")
STUDENT_IN_PYTHON = claim(PAGE, "python", "add_teacher_targets(")
AVERAGE = claim(PAGE, "bash", "hf-multitask average")
FEWEST_DATA = claim(PAGE, "bash", "fewest/train.jsonl")
FEWEST = claim(PAGE, "yaml", "# fewest.yaml")
TRAIN_FEWEST = claim(PAGE, "bash", "hf-multitask train fewest.yaml")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def domain(folder, write_jsonl, encoder):
    """Prepare and configure a domain as the page does, from files in the form of SNIPS and CLINC150."""
    requests = [("how much is on my card", "balance"), ("send ten to ann", "transfer"), ("is it cold", "weather")]
    for name in ("snips", "clinc150"):
        (folder / name).mkdir()
    for split in ("train", "validation", "test"):
        write_jsonl(ROWS, folder / "snips" / f"{split}.jsonl")
        with (folder / "clinc150" / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "intent"), *requests * 2])
    run_commands(DOMAIN_DATA)
    write_yaml(GENERAL, {MINILM: str(encoder)})
    write_yaml(BANK)


def stages_of(name):
    return json.loads(Path("out", name, "stages.json").read_text())["stages"]


def metrics_of(name):
    return json.loads(Path("out", name, "metrics.json").read_text())["test"].keys()


def test_from_general_text_to_a_domain(domain, capsys):
    assert "weather" not in Path("bank/train.csv").read_text()
    assert len(Path("bank/train.csv").read_text().splitlines()) == 5

    run_commands(TRAIN_BANK)
    stages = stages_of("bank")
    assert [stage["name"] for stage in stages] == ["new head", "upper layers", "all layers"]
    assert "drift_tokens" not in stages[0]["last"]
    assert all({"drift_tokens", "drift_pooled"} <= stage["last"].keys() for stage in stages[1:])

    capsys.readouterr()
    run_python(FORGETTING)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["out/general", "out/bank"]

    run_commands(SAMPLE)
    write_yaml(MIXED)
    run_commands(TRAIN_MIXED)
    assert {"intent_accuracy", "slots_f1", "request_accuracy"} <= metrics_of("bank-mixed")
    assert "protect" not in json.loads(Path("out/bank-unprotected/freeze_schedule.json").read_text())


def test_a_task_added_to_a_trained_model(domain):
    run_commands(TRAIN_BANK)
    run_commands(TRAIN_HEAD)
    run_python(ADD_TASK)
    run_python(SAME_ANSWERS)
    run_python(SAME_ANSWERS, changes={"out/added": "out/bank-head"})
    moved = MultiTaskModel.from_pretrained("out/added")
    with torch.no_grad():
        next(moved.encoder.parameters()).mul_(1.01)
    moved.save_pretrained("out/moved")
    with pytest.raises(AssertionError):
        run_python(SAME_ANSWERS, changes={"out/added": "out/moved"})


@pytest.fixture
def sentences(folder):
    write_bundled(folder / "sentences", num_rows=60)


def test_one_task_that_matters_most(sentences, encoder):
    write_yaml(ENTITIES_FIRST, {MINILM: str(encoder), "test.jsonl}": "test.jsonl, unseen_labels: ignore}"})
    run_commands(TRAIN_ENTITIES)
    assert [stage["name"] for stage in stages_of("entities-first")] == ["together", "only entities"]
    assert {"entities_f1", "topic_accuracy"} <= metrics_of("entities-weighted")


def test_few_rows(sentences, encoder):
    run_commands(FEW_DATA)
    write_yaml(FEW, {MINILM: str(encoder), "num_train_epochs: 20": "num_train_epochs: 2"})
    run_commands(TRAIN_FEW)
    assert [stages_of(name)[0]["trained_groups"][0] for name in ("few", "few-top-2", "few-all")] == [
        "head.topic",
        "encoder.1",
        "embeddings",
    ]


def test_few_rows_in_folds(sentences, encoder):
    run_commands(FEW_DATA)
    few_labels = {
        MINILM: str(encoder),
        "folds: 5}": "folds: 2}",
        "out/few-folds": "out/few-folds\ntraining: {max_steps: 4}",
    }
    write_yaml(FEW_FOLDS, few_labels)
    run_commands(TRAIN_FOLDS)
    metrics = json.loads(Path("out/few-folds/metrics.json").read_text())
    assert {"topic_accuracy", "entities_f1"} <= metrics["folds"].keys() & metrics["folds_sd"].keys()
    study = json.loads(Path("out/few-folds-study/study.json").read_text())
    assert [scenario["name"] for scenario in study["scenarios"]] == ["encoder-frozen", "top:2", "nothing-frozen"]


def test_a_teacher_and_the_average_of_two(folder, encoder, capsys):
    write_bundled(folder / "sentences", num_rows=130)
    run_commands(FEW_DATA)
    run_commands(UNLABELED)
    write_yaml(TEACHER, {MINILM: str(encoder), "num_train_epochs: 20": "num_train_epochs: 1"})
    write_yaml(STUDENT, {MINILM: str(encoder)})
    run_commands(TRAIN_STUDENT, {"num_train_epochs 20": "num_train_epochs 1"})
    names = ("teacher", "teacher-1", "student", "student-alone")
    assert all({"entities_f1", "topic_accuracy"} <= metrics_of(name) for name in names)
    logs = {name: Path("out", name, "history.json").read_text() for name in names}
    assert [name for name in names if "entities_teacher_loss" in logs[name]] == ["student"]
    run_python(STUDENT_IN_PYTHON, changes={MINILM: str(encoder)})
    assert "130 rows (100 labeled for 'topic', 100 labeled for 'entities')" in capsys.readouterr().out
    run_commands(AVERAGE)
    assert "Part of the average" in Path("out/teacher-average/README.md").read_text()


def test_fewer_than_ten_rows_per_label(sentences, encoder):
    run_commands(FEWEST_DATA)
    write_yaml(FEWEST, {MINILM: str(encoder), "num_train_epochs: 20": "num_train_epochs: 2"})
    run_commands(TRAIN_FEWEST)
    assert stages_of("fewest")[0]["trained_groups"] == ["head.topic"]
    history = json.loads(Path("out/fewest/history.json").read_text())["history"]
    assert history[0]["contrastive_steps"] == 10
    assert "topic_accuracy" in metrics_of("fewest")
