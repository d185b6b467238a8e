"""Runs with folds: each fold as a run of its own, one model of all rows, and runs that were killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, RunConfig, run_training
from hf_multitask.cli import main
from hf_multitask.runs.build import build_trainer
from hf_multitask.runs.folds import StopAfterCallback, cross_validate, read_fold_scores
from hf_multitask.runs.output_dir import read_metrics
from tests.tiny import METRIC_NAMES, ROWS, without_calibration

FOLDS = 3


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS)), "test": str(write_jsonl(ROWS[9:])), "folds": FOLDS},
        "training": {
            "num_train_epochs": 3,
            "eval_strategy": "epoch",
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 4,
            "disable_tqdm": True,
        },
        "output_dir": str(tmp_path / "out"),
    }


def run(values, **arguments):
    return run_training(RunConfig.from_dict(values), **arguments)


class SeenRows(TrainerCallback):
    """Counts of the training and validation rows of each training."""

    def __init__(self):
        self.counts = []

    def on_train_begin(self, args, state, control, train_dataloader=None, eval_dataloader=None, **kwargs):
        validation = None if eval_dataloader is None else len(eval_dataloader.dataset)
        self.counts.append((len(train_dataloader.dataset), validation))


def test_a_fold_is_scored_as_a_run_with_these_validation_rows(values, write_jsonl, tmp_path):
    scores = cross_validate(RunConfig.from_dict(values))
    _, data = build_trainer(RunConfig.from_dict(values))
    for number in range(FOLDS):
        held_out = [ROWS[i] for i in data.folds.rows(number)]
        rest = [ROWS[i] for i in data.folds.other_rows(number)]
        by_hand = {
            **values,
            # The labels are those of all rows.
            "tasks": [task.to_dict() for task in data.tasks],
            "data": {"train": str(write_jsonl(rest)), "validation": str(write_jsonl(held_out))},
            # The scores of folds are those of models without a temperature, as the final model is.
            "calibrate": False,
            "output_dir": str(tmp_path / f"by hand {number}"),
        }
        assert run(by_hand) == {"validation": scores.folds[number].metrics}
        state = json.loads(
            max(
                (tmp_path / f"by hand {number}").glob("checkpoint-*/trainer_state.json"), key=os.path.getmtime
            ).read_text()
        )
        assert scores.folds[number].steps == state["best_global_step"]
        assert scores.folds[number].epochs == state["best_global_step"] / -(-len(rest) // 4)
    metrics = [result.metrics["intent_accuracy"] for result in scores.folds]
    assert scores.mean["intent_accuracy"] == pytest.approx(sum(metrics) / FOLDS)
    assert scores.sd["intent_accuracy"] == pytest.approx(torch.tensor(metrics).std().item(), abs=1e-6)
    assert len(set(metrics)) > 1


def test_the_model_is_trained_on_all_rows_as_long_as_the_folds_chose(values, tmp_path):
    seen = SeenRows()
    metrics = run(values, callbacks=[seen])
    out = tmp_path / "out"
    scores = read_fold_scores(out)
    assert [rows for rows, _ in seen.counts] == [*(len(ROWS) - result.rows for result in scores.folds), len(ROWS)]
    state = json.loads((max(out.glob("checkpoint-*"), key=os.path.getmtime) / "trainer_state.json").read_text())
    assert state["epoch"] == round(scores.epochs)
    # The learning rates fall as in the folds, to zero after all three epochs.
    assert state["max_steps"] == 3 * -(-len(ROWS) // 4)
    assert not any("eval_loss" in entry for entry in state["log_history"])
    assert read_metrics(out) == metrics
    assert list(metrics) == ["folds", "folds_sd", "test"]
    assert without_calibration(metrics["folds"]) == without_calibration(metrics["test"]) == METRIC_NAMES
    assert metrics["folds"] == scores.mean
    assert not (out / "folds").exists()


def test_report_and_card_show_the_folds(values, tmp_path):
    metrics = run(values)
    mean, sd = (f"{metrics[name]['intent_accuracy']:.4f}" for name in ("folds", "folds_sd"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Cross-validation" in card
    assert f"| intent_accuracy | {mean} | {sd} |" in card
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Cross-validation</h2>" in report
    assert f'>{mean}</td><td class="number">{sd}</td>' in report


def test_the_command_prints_mean_and_deviation(values, tmp_path, capsys):
    del values["data"]["test"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", str(path)]) == 0
    printed = capsys.readouterr()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    mean, sd = (metrics[name]["intent_accuracy"] for name in ("folds", "folds_sd"))
    assert f"{mean:.4f} ± {sd:.4f}" in printed.out
    for number in range(1, FOLDS + 1):
        assert f"Fold {number} of {FOLDS}: intent_accuracy " in printed.err
    assert MultiTaskModel.from_pretrained(tmp_path / "out").config.tasks[0].labels


def test_with_a_number_of_steps_the_folds_choose_the_steps(values, tmp_path):
    values["training"] |= {"max_steps": 9, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    values["training"] |= {"save_steps": 2}
    run(values)
    state = json.loads(
        (max((tmp_path / "out").glob("checkpoint-*"), key=os.path.getmtime) / "trainer_state.json").read_text()
    )
    assert state["global_step"] <= round(read_fold_scores(tmp_path / "out").steps) < state["global_step"] + 2


def test_what_is_raised_after_a_fold_ends_the_cross_validation(values):
    seen = []

    def stop(scores):
        seen.append(len(scores.folds))
        if len(seen) == 2:
            raise KeyError("pruned")

    with pytest.raises(KeyError, match="pruned"):
        cross_validate(RunConfig.from_dict(values), on_fold=stop)
    assert seen == [1, 2]


def test_a_schedule_that_watches_validation_is_refused_before_training(values, tmp_path):
    with pytest.raises(ValueError, match=r"data.folds: the last model is trained on all rows.*watches a metric"):
        run({**values, "freeze": "progressive"})
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_stages_by_epochs_train_in_folds_and_on_all_rows(values, tmp_path):
    run({**values, "freeze": "heads-then-all"})
    names = [stage["name"] for stage in json.loads((tmp_path / "out" / "stages.json").read_text())["stages"]]
    assert names[0] == "heads"


def test_folds_of_another_run_are_not_written_over_unasked(values, tmp_path):
    cross_validate(RunConfig.from_dict(values))
    with pytest.raises(FileExistsError, match="already contains a model"):
        run(values)
    values["training"]["learning_rate"] = 1e-3
    with pytest.raises(
        ValueError, match=r"--resume: .*folds.json: the finished folds were trained with another config"
    ):
        run(values, resume=True)
    run(values, overwrite=True)
    assert (tmp_path / "out" / "metrics.json").is_file()
    values["data"] = {"train": values["data"]["train"]}
    del values["training"]["eval_strategy"]
    run(values, overwrite=True)
    assert not (tmp_path / "out" / "folds.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("finished", [1, FOLDS])
def test_a_killed_run_continues_without_training_finished_folds_again(values, tmp_path, finished):
    whole = run({**values, "output_dir": str(tmp_path / "whole")})
    weights = MultiTaskModel.from_pretrained(tmp_path / "whole").state_dict()
    values["training"]["logging_steps"] = 1
    path, out = tmp_path / "config.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(values))
    # Killed at the first checkpoint of the next fold, or of the training on all rows.
    target = out / "folds" / str(finished + 1) if finished < FOLDS else out
    kill_when(path, lambda: (out / "folds.json").is_file() and list(target.glob("checkpoint-*/trainer_state.json")))
    before = json.loads((out / "folds.json").read_text())["folds"]
    assert len(before) == finished
    seen = SeenRows()
    assert run(values, resume=True, callbacks=[seen]) == whole
    assert len(seen.counts) == FOLDS - finished + 1
    assert json.loads((out / "folds.json").read_text())["folds"][:finished] == before
    for name, value in MultiTaskModel.from_pretrained(out).state_dict().items():
        assert torch.equal(value, weights[name])


def kill_when(config, condition):
    """Start a training in a process of its own, and kill it as soon as a condition holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_multitask", "train", str(config)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_training_that_is_resumed_at_its_end_takes_no_step(values, tmp_path):
    run(values)
    out = tmp_path / "out"
    weights = MultiTaskModel.from_pretrained(out).state_dict()
    metrics = read_metrics(out)
    (out / "metrics.json").unlink()
    assert run(values, resume=True) == metrics
    for name, value in MultiTaskModel.from_pretrained(out).state_dict().items():
        assert torch.equal(value, weights[name])


def test_the_limit_counts_epochs_or_steps():
    from transformers import TrainerControl, TrainerState

    for callback, state in (
        (StopAfterCallback(epochs=2), TrainerState(epoch=1.9999999, global_step=5)),
        (StopAfterCallback(steps=5), TrainerState(epoch=0.5, global_step=5)),
    ):
        control = TrainerControl()
        callback.on_step_end(None, TrainerState(epoch=0.4, global_step=4), control)
        assert not control.should_training_stop
        callback.on_step_end(None, state, control)
        assert control.should_training_stop
