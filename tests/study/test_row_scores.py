"""Row scores: their sums give the metric of an evaluation."""

import numpy as np
import pytest
from transformers.trainer_utils import PredictionOutput

from hf_multitask import TaskConfig
from hf_multitask.study.row_scores import metric_name, row_scores
from hf_multitask.training.metrics import task_metrics

GENERATOR = np.random.default_rng(0)
ROWS = 60


def single_label():
    labels = GENERATOR.integers(-1, 4, ROWS)
    return np.where(labels < 0, -100, labels), GENERATOR.integers(0, 4, ROWS)


def tags():
    labels = GENERATOR.integers(0, 5, (ROWS, 7))
    ids = np.where(GENERATOR.random((ROWS, 7)) < 0.7, labels, GENERATOR.integers(0, 5, (ROWS, 7)))
    labels[:, 5:] = -100
    labels[3] = -100
    return labels, ids


def multi_label():
    labels = GENERATOR.integers(0, 2, (ROWS, 3)).astype(float)
    labels[5] = np.nan
    return labels, np.where(GENERATOR.random((ROWS, 3)) < 0.9, np.nan_to_num(labels), 1.0)


def regression():
    labels = GENERATOR.normal(size=(ROWS, 2))
    labels[7] = np.nan
    return labels, GENERATOR.normal(size=(ROWS, 2))


@pytest.mark.parametrize(
    ("task", "make"),
    [
        (
            TaskConfig(
                "intent", "sequence_classification", labels=list("abcd"), problem_type="single_label_classification"
            ),
            single_label,
        ),
        (TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]), tags),
        (
            TaskConfig(
                "topics", "sequence_classification", labels=list("abc"), problem_type="multi_label_classification"
            ),
            multi_label,
        ),
        (TaskConfig("sizes", "sequence_classification", labels=list("ab"), problem_type="regression"), regression),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_rows_add_up_to_the_metric(task, make):
    labels, ids = make()
    output = PredictionOutput({task.name: {"ids": ids}}, {task.name: labels}, {})
    rows = row_scores(output, [task])[task.name]
    assert len(rows.numerators) == len(rows.denominators) == ROWS
    expected = task_metrics(task, ids, labels)[metric_name(task).removeprefix(f"{task.name}_")]
    assert sum(rows.numerators) / sum(rows.denominators) == pytest.approx(expected)


def test_a_task_without_labels_is_left_out():
    task = TaskConfig("intent", "sequence_classification", labels=["a"], problem_type="single_label_classification")
    unlabeled = np.full(3, -100)
    assert row_scores(PredictionOutput({"intent": {"ids": unlabeled}}, {"intent": unlabeled}, {}), [task]) == {}
