"""Runs calibrate their scores on validation, and saved models are calibrated later."""

import json

import pytest
import torch
from transformers import pipeline

from hf_multitask import RunConfig, run_training
from hf_multitask.cli import main
from hf_multitask.models import load_model
from hf_multitask.runs import calibrate_model
from tests.tiny import ROWS, SENTENCES


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS))},
        "training": {"num_train_epochs": 30, "learning_rate": 3e-3, "per_device_train_batch_size": 8},
        "output_dir": str(tmp_path / "out"),
    }


def run(values, **changes):
    return run_training(RunConfig.from_dict({**values, **changes}))


def temperatures(folder):
    return [task.temperature for task in load_model(folder)[0].config.tasks]


def answers(folder):
    return pipeline("multi-task", model=str(folder))(SENTENCES, word_labels=True)


def labels_of(predictions):
    return [(row["intent"]["label"], row["slots"]["labels"]) for row in predictions]


def test_a_run_calibrates_and_calibrate_false_leaves_it_out(values, tmp_path):
    metrics = run(values)
    plain = run(values, calibrate=False, output_dir=str(tmp_path / "plain"))
    out, other = tmp_path / "out", tmp_path / "plain"
    assert all(value != 1 for value in temperatures(out))
    assert temperatures(other) == [1.0, 1.0]
    weights = [load_model(folder)[0].state_dict() for folder in (out, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert labels_of(answers(out)) == labels_of(answers(other))
    assert answers(out)[0]["intent"]["score"] != answers(other)[0]["intent"]["score"]
    for name, value in metrics["validation"].items():
        is_of_scores = name.endswith(("_ece", "_brier", "_nll"))
        assert (value != plain["validation"][name]) == is_of_scores, name
    assert "intent_ece" in (out / "README.md").read_text()
    assert "Reliability of the scores: predicted labels" in (out / "report.html").read_text()
    assert "temperature" in (out / "train.log").read_text()


def test_without_validation_nothing_is_fitted_and_it_is_said(values, tmp_path):
    del values["data"]["validation"]
    run(values, training={"num_train_epochs": 1, "save_strategy": "no", "eval_strategy": "no"})
    assert temperatures(tmp_path / "out") == [1.0, 1.0]
    assert "Scores are not calibrated: there is no validation split" in (tmp_path / "out" / "train.log").read_text()


def test_a_saved_model_is_calibrated_later(values, tmp_path, capsys):
    run(values)
    out, validation = tmp_path / "out", values["data"]["validation"]
    fitted, expected = temperatures(out), answers(out)
    path = out / "config.json"
    config = json.loads(path.read_text())
    # A model of a version without temperatures.
    for task in config["tasks"]:
        del task["temperature"]
    path.write_text(json.dumps(config))
    assert temperatures(out) == [1.0, 1.0]
    weights = (out / "model.safetensors").read_bytes()
    assert main(["calibrate", str(out), validation]) == 0
    assert f"The temperatures are in {path}" in capsys.readouterr().out
    assert temperatures(out) == pytest.approx(fitted, rel=1e-3)
    assert answers(out)[0]["intent"]["score"] == pytest.approx(expected[0]["intent"]["score"], abs=1e-4)
    assert (out / "model.safetensors").read_bytes() == weights
    for task in config["tasks"]:
        task["temperature"] = fitted[config["tasks"].index(task)]
    assert json.loads(path.read_text()).keys() == config.keys()


def test_only_models_in_folders_are_calibrated(tmp_path):
    with pytest.raises(ValueError, match=r"calibrate: expected a folder with a model, found"):
        calibrate_model(tmp_path / "none", ROWS)
