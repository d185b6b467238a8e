"""Runs that have learned nothing, or not enough, say so."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from hf_multitask import RunConfig, TaskConfig, run_training
from hf_multitask.data.row_texts import RowTexts
from hf_multitask.reports.split_result import SplitResult
from hf_multitask.runs.outcome import find_problems
from tests.tiny import ROWS

TASKS = [{"name": "intent", "type": "sequence_classification"}, {"name": "slots", "type": "token_classification"}]


def train(encoder, write_jsonl, tmp_path, rows, tasks, **training):
    files = {split: str(write_jsonl(rows)) for split in ("train", "validation")}
    values = {"encoder": str(encoder), "tasks": tasks, "data": files, "output_dir": str(tmp_path / "out")}
    return run_training(RunConfig.from_dict({**values, "training": training}))


def test_a_run_without_learning_says_so(encoder, write_jsonl, tmp_path, caplog):
    train(encoder, write_jsonl, tmp_path, ROWS, TASKS, num_train_epochs=1, learning_rate=1e-9)
    problems = [record.getMessage() for record in caplog.records if record.name == "hf_multitask.runs.training"]
    assert any(text.startswith("Task 'intent' is no better than its commonest label: ") for text in problems)
    assert any(text.startswith("The run had only 3 steps.") for text in problems)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "is no better than its commonest label" in report


def test_a_run_that_learned_is_silent(encoder, write_jsonl, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "hf_multitask.runs.training")
    train(encoder, write_jsonl, tmp_path, ROWS, TASKS, num_train_epochs=60, learning_rate=3e-3, eval_strategy="no",
          load_best_model_at_end=False)  # fmt: skip
    assert not [record for record in caplog.records if record.name == "hf_multitask.runs.training"]


@pytest.mark.parametrize(("predicted", "labels", "is_problem"), [(0, 1, True), (1, 1, False), (0, 0, False)])
def test_labels_that_are_never_predicted(predicted, labels, is_problem):
    task = TaskConfig(
        "topics", "sequence_classification", labels=["a", "b"], problem_type="multi_label_classification"
    )
    values = {"ids": np.full((3, 2), predicted), "count": np.ones(3), "loss": np.zeros(3)}
    output = SimpleNamespace(predictions={"topics": values}, label_ids={"topics": np.full((3, 2), float(labels))})
    result = SplitResult({"topics_micro_f1": float(predicted * labels)}, output, RowTexts())
    problems = find_problems([task], [], 1000, {"validation": result})
    assert problems == (["Task 'topics' finds no label: F1 is 0."] if is_problem else [])


def test_a_regression_that_is_no_better_than_the_mean(encoder, write_jsonl, tmp_path, caplog):
    rows = [{"text": " ".join(row["tokens"]), "score": 100.0 + i} for i, row in enumerate(ROWS)]
    task = {"name": "score", "type": "sequence_classification", "problem_type": "regression"}
    train(encoder, write_jsonl, tmp_path, rows, [task], num_train_epochs=1, learning_rate=1e-9)
    assert "Task 'score' is no better than the mean" in caplog.text


@pytest.mark.parametrize(("losses", "falls"), [((2.0, 1.0), True), ((2.0, 1.9), False), ((1.0,), False)])
def test_a_loss_that_still_falls(losses, falls):
    history = [{"eval_loss": loss, "step": step, "epoch": step} for step, loss in enumerate(losses, 1)]
    problems = find_problems([], history, 1000, {})
    assert bool(problems) == falls
    assert not falls or "from 2 to 1 in the last two evaluations" in problems[0]
