"""A run with a teacher and unlabeled rows, from its config."""

import json

import pytest
import torch
import yaml
from torch import nn

from hf_multitask import MultiTaskModel, RunConfig, load_tokenizer, prepare_datasets, run_training
from hf_multitask.runs.build import build_trainer
from hf_multitask.runs.distillation import DistillConfig
from tests.tiny import ROWS, save_tiny_run

TRAINING = {
    "max_steps": 3,
    "logging_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "use_cpu": True,
}
UNLABELED = [{"tokens": row["tokens"], "intent": "ignored", "slots": ["ignored"]} for row in ROWS]


def save_teacher(encoder, folder, tasks):
    tokenizer = load_tokenizer(encoder)
    model = MultiTaskModel.from_encoder(encoder, prepare_datasets({"train": ROWS}, tokenizer, tasks).tasks)
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def config_file(encoders, tasks, tmp_path):
    """Write the config of a run with a teacher of another architecture beside it; return its path."""
    path = save_tiny_run(tmp_path, TRAINING, tmp_path / "out")
    save_teacher(encoders["roberta"], tmp_path / "teacher", tasks)
    (tmp_path / "unlabeled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in UNLABELED))
    values = yaml.safe_load(path.read_text())
    values["distill"] = {"teacher": "teacher", "data": "unlabeled.jsonl", "temperature": 3, "tasks": {"slots": 0.5}}
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_config_names_teacher_and_data_relative_to_its_folder(config_file, tmp_path):
    config = RunConfig.from_file(config_file)
    assert config.distill == DistillConfig(
        str(tmp_path / "teacher"), str(tmp_path / "unlabeled.jsonl"), 3.0, tasks={"slots": 0.5}
    )
    trainer, data = build_trainer(config)
    assert len(data["train"]) == 16 + len(UNLABELED)
    assert (data.teacher.rows, data.teacher.labeled_rows) == (38, {"slots": 16})
    assert list(data["train"].features["teacher"]) == ["slots"]
    distiller = trainer.step_losses.distiller
    assert (distiller.temperature, distiller.weights) == (3.0, {"slots": 0.5})
    # Labels in the unlabeled rows are ignored.
    assert [row["labels"]["intent"] for row in data["train"]][16:] == [-100] * len(UNLABELED)


def test_a_run_writes_a_model_and_says_what_the_teacher_did(config_file, tmp_path):
    metrics = run_training(RunConfig.from_file(config_file))
    assert "joint_accuracy" in metrics["test"]
    assert RunConfig.from_file(config_file).distill
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert any("slots_teacher_loss" in entry for entry in history["history"])
    assert "38 rows (16 labeled for &#39;slots&#39;); predicts " in (tmp_path / "out" / "report.html").read_text()
    MultiTaskModel.from_pretrained(tmp_path / "out")


def test_several_teachers_and_rows_in_memory(config_file, tmp_path):
    distill = {"teacher": [str(tmp_path / "teacher")] * 2, "data": UNLABELED}
    config = RunConfig.from_file(config_file, {"distill": distill})
    one = RunConfig.from_file(config_file, {"distill": {**distill, "teacher": str(tmp_path / "teacher")}})
    first, second = ([dict(row["teacher"]) for row in build_trainer(of)[1]["train"]] for of in (config, one))
    flat = [torch.tensor(row[name]) for rows in (first, second) for row in rows for name in sorted(row)]
    half = len(flat) // 2
    assert all(torch.allclose(a, b, atol=0.02) for a, b in zip(flat[:half], flat[half:], strict=True))


def test_without_unlabeled_rows_the_teacher_scores_the_labeled_ones(config_file, tmp_path):
    config = RunConfig.from_file(config_file, {"distill": {"teacher": str(tmp_path / "teacher")}})
    assert build_trainer(config)[1].teacher.rows == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill.teachr": "x"}, r"distill: unknown key 'teachr'\. Did you mean 'teacher'"),
        ({"distill": {"data": "unlabeled.jsonl"}}, "distill: the key 'teacher' is missing"),
        ({"distill": "teacher"}, "distill: expected a mapping, found 'teacher'"),
        ({"distill.teacher": 3}, "distill: teacher: expected a string or a list of strings, found 3"),
        ({"distill.teacher": []}, r"distill\.teacher is empty"),
        ({"distill.tasks": ["slot"]}, r"distill\.tasks: unknown task 'slot'\. Did you mean 'slots'"),
        ({"distill.temperature": 0}, r"distill\.temperature must be above 0, found 0"),
        ({"data.streaming": True, "training.max_steps": 2}, "distill: a teacher scores all rows before the training"),
        ({"data.validation": None, "data.folds": 3}, "distill: a teacher may have been trained on the rows of a fold"),
    ],
)
def test_a_wrong_config_is_refused(changes, message, config_file):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_file(config_file, changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill.teacher": "./nothing"}, "'./nothing': the folder does not exist"),
        ({"distill.teacher": "{folder}/encoder"}, "expected a multi-task model, or a stock model"),
        (
            {
                "tasks": [
                    {"name": "slots", "type": "token_classification", "labels": ["O", "B-place", "I-place", "B-x"]}
                ],
                "data.tasks": ["slots"],
            },
            "does not have B-x, I-x",
        ),
    ],
)
def test_a_wrong_teacher_is_refused_before_the_training(changes, message, config_file, tmp_path):
    if "distill.teacher" in changes:
        changes = {"distill.teacher": changes["distill.teacher"].format(folder=tmp_path)}
    config = RunConfig.from_file(config_file, changes)
    with pytest.raises(ValueError, match=message):
        build_trainer(config)
    assert not (tmp_path / "out").exists()
