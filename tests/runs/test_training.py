"""Whole runs: the content of a model directory, and runs that refuse to start."""

import json

import pytest
import torch

from hf_multitask import MultiTaskModel, RunConfig, load_tokenizer, run_evaluation, run_training
from hf_multitask.runs.output_dir import find_last_checkpoint
from hf_multitask.runtime import folder_lock
from hf_multitask.runtime.folder_lock import only_writer
from hf_multitask.training.divergence import DivergenceError
from tests.predictions import predict
from tests.tiny import METRIC_NAMES, ROWS, without_calibration


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    files = {split: str(write_jsonl(rows)) for split, rows in (("train", ROWS), ("validation", ROWS[:9]))}
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {**files, "test": str(write_jsonl(ROWS[9:]))},
        "training": {"num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 4},
        "output_dir": str(tmp_path / "out"),
    }


def run(values, **arguments):
    return run_training(RunConfig.from_dict(values), **arguments)


def test_output_dir_is_a_complete_model(values, tmp_path):
    metrics = run(values)
    out = tmp_path / "out"
    written = json.loads((out / "metrics.json").read_text())
    rows = {split: scores.pop("support")["intent"]["rows"] for split, scores in written.items()}
    assert rows == {"validation": 9, "test": len(ROWS[9:])}
    assert written == metrics
    assert {split: without_calibration(scores) for split, scores in written.items()} == {
        "validation": METRIC_NAMES,
        "test": METRIC_NAMES,
    }
    card = (out / "README.md").read_text()
    assert "library_name: hf-multitask" in card
    scores = " | ".join(f"{metrics[split]['joint_accuracy']:.4f}" for split in ("validation", "test"))
    assert f"| joint_accuracy | {scores} |" in card
    assert run_evaluation(out, values["data"]["test"]) == pytest.approx(metrics["test"], rel=1e-5)
    model = MultiTaskModel.from_pretrained(out)
    assert predict(model, load_tokenizer(out), ["play"])[0].keys() == {"intent", "slots"}


def test_the_cards_snippet_runs(values, tmp_path, monkeypatch, capsys):
    run(values)
    monkeypatch.chdir(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    exec(card.split("```python\n")[1].split("```")[0], {})
    assert "'intent': {'label':" in capsys.readouterr().out


def test_the_best_epoch_on_validation_is_kept(values, tmp_path):
    run(values)
    state = json.loads((find_last_checkpoint(tmp_path / "out") / "trainer_state.json").read_text())
    scores = [log["eval_joint_accuracy"] for log in state["log_history"] if "eval_joint_accuracy" in log]
    assert state["best_metric"] == max(scores)


def test_the_metric_that_chooses_can_be_given(values, tmp_path):
    values["training"]["metric_for_best_model"] = "loss"
    run(values)
    state = json.loads((find_last_checkpoint(tmp_path / "out") / "trainer_state.json").read_text())
    assert state["best_metric"] == min(log["eval_loss"] for log in state["log_history"] if "eval_loss" in log)


def test_a_model_is_not_written_over_unasked(values, tmp_path):
    run(values)
    with pytest.raises(FileExistsError, match=r"already contains a model. Use --overwrite .* --resume"):
        run(values)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    values["training"]["seed"] = 1
    run(values, overwrite=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


def test_overwriting_leaves_files_of_others_alone(values, tmp_path):
    run(values)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    run(values, overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_resumed_run_ends_as_the_whole_one(values, tmp_path):
    whole = run(values)
    weights = MultiTaskModel.from_pretrained(tmp_path / "out").state_dict()
    last = find_last_checkpoint(tmp_path / "out")
    for name in ("model.safetensors", "config.json", "metrics.json"):
        (tmp_path / "out" / name).unlink()
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    # A checkpoint that was not written completely is skipped.
    (tmp_path / "out" / "checkpoint-99").mkdir()
    (tmp_path / "out" / "checkpoint-99" / "model.safetensors").write_bytes(b"")
    assert run(values, resume=True) == whole
    for name, value in MultiTaskModel.from_pretrained(tmp_path / "out").state_dict().items():
        assert torch.equal(value, weights[name])


@pytest.mark.parametrize("arguments", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_second_run_into_the_same_folder_is_refused(arguments, values, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_TIMEOUT_SECONDS", 0)
    message = r"out': another run is writing to it"
    with only_writer(tmp_path / "out"), pytest.raises(FileExistsError, match=message):
        run(values, **arguments)
    assert not (tmp_path / "out").exists()


def test_diverged_run_writes_no_model(values, tmp_path):
    values["training"] |= {"learning_rate": 1e30, "max_grad_norm": 0.0, "optim": "sgd", "warmup_steps": 0}
    with pytest.raises(DivergenceError, match=r"step \d+: the .* not finite"):
        run(values)
    assert not {"model.safetensors", "metrics.json"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_resuming_without_a_checkpoint_is_refused(values):
    with pytest.raises(FileNotFoundError, match="has no complete checkpoint"):
        run(values, resume=True)


@pytest.mark.parametrize("frozen", ["all", ["encoder", "head.intent", "head.slots"]])
def test_all_frozen_is_scored_as_a_baseline(frozen, values, caplog):
    metrics = run({**values, "freeze": frozen})
    assert "nothing will be learned" in caplog.text
    assert metrics["test"]["loss"] > 0


def test_wrong_input_is_refused_before_anything_is_written(values, tmp_path, write_jsonl):
    values["data"]["test"] = str(write_jsonl([{**ROWS[0], "intent": "Fly"}]))
    with pytest.raises(ValueError, match="task 'intent' does not know the labels 'Fly'"):
        run(values)
    assert not (tmp_path / "out").exists()
    values["data"]["test"] = values["data"]["train"]
    with pytest.raises(ValueError, match=r"unknown group 'head.intents'. Did you mean 'head.intent'"):
        run({**values, "freeze": ["head.intents"]})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "tasks",
    [
        [("a", "sequence_classification", "intent"), ("b", "sequence_classification", "intent")],
        [("a", "token_classification", "slots"), ("b", "token_classification", "slots")],
        [("only", "token_classification", "slots")],
        [("only", "sequence_classification", "intent")],
    ],
)
def test_any_number_of_tasks_of_each_type(tasks, values):
    values["tasks"] = [{"name": name, "type": kind, "column": column} for name, kind, column in tasks]
    metrics = run(values)
    assert all(f"{name}_loss" in metrics["test"] for name, _, _ in tasks)


def test_regression_and_several_labels(values, write_jsonl):
    rows = [
        {"text": " ".join(row["tokens"]), "size": len(row["tokens"]) / 2, "found": sorted(set(row["slots"]) - {"O"})}
        for row in ROWS
    ]
    values["data"] = {"train": str(write_jsonl(rows)), "validation": str(write_jsonl(rows[:9]))}
    values["tasks"] = [{"name": name, "type": "sequence_classification"} for name in ("size", "found")]
    metrics = run(values)["validation"]
    assert {"size_mse", "size_mae", "found_micro_f1", "found_accuracy", "joint_accuracy"} <= metrics.keys()
    values["tasks"] = values["tasks"][:1]
    assert "joint_accuracy" not in run(values, overwrite=True)["validation"]


def test_a_data_set_with_named_splits(values, write_jsonl, tmp_path):
    (tmp_path / "set").mkdir()
    for split, rows in (("train", ROWS), ("validation", ROWS[:9])):
        write_jsonl(rows, tmp_path / "set" / f"{split}.jsonl")
    values["data"] = {"name": str(tmp_path / "set"), "train": "train", "validation": "validation"}
    assert "slots_f1" in run(values)["validation"]
    values["data"]["validation"] = "valid"
    with pytest.raises(ValueError, match=r"unknown split 'valid'. Did you mean 'validation'"):
        run(values, overwrite=True)


def test_a_data_set_that_cannot_be_reached_is_named(values):
    values["data"] = {"name": "nobody/nothing", "train": "train"}
    with pytest.raises(ValueError, match="dataset 'nobody/nothing' could not be read"):
        run(values)
