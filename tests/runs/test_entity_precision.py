"""A model that leaves out entities which are not sure enough, wherever it answers."""

import json

import pytest
from transformers import pipeline

from hf_multitask import RunConfig, run_evaluation, run_training
from hf_multitask.cli import main
from hf_multitask.export import export_onnx
from hf_multitask.models import load_model
from tests.tiny import ROWS

TEXTS = [{"tokens": row["tokens"]} for row in ROWS]


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    return {
        "encoder": str(encoder),
        "tasks": [{"name": "slots", "type": "token_classification", "entity_precision": 0.95}],
        "data": {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS))},
        "training": {"num_train_epochs": 20, "learning_rate": 3e-3, "per_device_train_batch_size": 8},
        "output_dir": str(tmp_path / "out"),
    }


def entities(rows):
    return [[(entity["label"], entity["start"], entity["end"]) for entity in row["slots"]["entities"]] for row in rows]


def test_the_minimum_is_fitted_and_applied_everywhere(values, write_jsonl, tmp_path):
    run_training(RunConfig.from_dict(values))
    out = tmp_path / "out"
    all_answers = pipeline("multi-task", model=str(out))(TEXTS, min_score=0.0)
    scores = sorted(entity["score"] for row in all_answers for entity in row["slots"]["entities"])
    # Entities with a lower score than most become wrong, so that a higher minimum is needed.
    middle = scores[len(scores) // 3]
    tags = [
        row["slots"] if all(entity["score"] > middle for entity in answer["slots"]["entities"]) else ["O"] * len(text)
        for row, answer, text in zip(ROWS, all_answers, (row["tokens"] for row in ROWS), strict=True)
    ]
    rows = [{**row, "slots": row_tags} for row, row_tags in zip(ROWS, tags, strict=True)] * 8
    validation = str(write_jsonl(rows))
    assert main(["calibrate", str(out), validation]) == 0
    (task,) = load_model(out)[0].config.tasks
    assert task.entity_precision == 0.95
    assert 0 < task.min_score["place"] < 1
    metrics = run_evaluation(out, validation)
    assert metrics["slots_answer_precision"] >= 0.95 > metrics["slots_precision"]
    assert metrics["slots_left_out"] > 0
    answers = pipeline("multi-task", model=str(out))(TEXTS)
    # The new rows have changed the temperature.
    all_answers = pipeline("multi-task", model=str(out))(TEXTS, min_score=0.0)
    left_out = sum(map(len, entities(all_answers))) - sum(map(len, entities(answers)))
    assert left_out * 8 == metrics["slots_left_out"]
    # A call's own value wins.
    assert pipeline("multi-task", model=str(out), min_score=0.0)(TEXTS) == all_answers
    assert not any(entities(pipeline("multi-task", model=str(out))(TEXTS, min_score=1.0)))
    export_onnx(out)
    assert entities(pipeline("multi-task", model=str(out), backend="onnx")(TEXTS)) == entities(answers)
    source, found = str(write_jsonl(TEXTS)), tmp_path / "found.jsonl"
    assert main(["predict", str(out), source, "--output", str(found)]) == 0
    written = [json.loads(line) for line in found.read_text().splitlines()]
    assert entities(written) == entities(answers)
    kept = [{tag for tag in row["slots"]["labels"] if tag != "O"} for row in written]
    assert [bool(tags) for tags in kept] == [bool(row) for row in entities(answers)]
    assert main(["predict", str(out), source, "--output", str(found), "--min-score", "0", "--overwrite"]) == 0
    assert entities(map(json.loads, found.read_text().splitlines())) == entities(all_answers)


def test_a_run_fits_it_from_one_prediction_of_validation(values, tmp_path, monkeypatch):
    from hf_multitask.training.trainer import MultiTaskTrainer

    prefixes = []
    predict = MultiTaskTrainer.predict

    def counted(trainer, dataset, ignore_keys=None, metric_key_prefix="test"):
        prefixes.append(metric_key_prefix)
        return predict(trainer, dataset, ignore_keys, metric_key_prefix)

    monkeypatch.setattr(MultiTaskTrainer, "predict", counted)
    rows = {"train": values["data"]["train"], "validation": values["data"]["validation"]}
    metrics = run_training(RunConfig.from_dict({**values, "data": rows}))["validation"]
    assert prefixes.count("calibration") == 1
    (task,) = load_model(tmp_path / "out")[0].config.tasks
    assert task.min_score is not None
    assert task.temperature != 1
    assert {"slots_answer_precision", "slots_answer_recall", "slots_answer_f1", "slots_left_out"} <= metrics.keys()
    log = (tmp_path / "out" / "train.log").read_text()
    assert log.index("temperature") < log.index("min_score")


def test_without_validation_nothing_is_fitted_and_it_is_said(values, tmp_path):
    del values["data"]["validation"]
    training = {"num_train_epochs": 1, "save_strategy": "no", "eval_strategy": "no"}
    run_training(RunConfig.from_dict({**values, "training": training}))
    assert load_model(tmp_path / "out")[0].config.tasks[0].min_score is None
    assert "entity_precision has no effect: there is no validation split" in (tmp_path / "out/train.log").read_text()
