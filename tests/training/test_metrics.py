"""Metrics: conlleval's F1, strict F1, joint accuracy, losses."""

import numpy as np
import pytest
from evaluate import Metric
from transformers import EvalPrediction

from hf_multitask import TaskConfig, build_compute_metrics
from hf_multitask.training.metrics import LabelMetric, MultiLabelMetric, RegressionMetric, TagMetric, task_metric_names
from tests.tiny import METRIC_NAMES, without_calibration

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification")
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"], loss_weight=2.0)
GRADE = TaskConfig("grade", "sequence_classification", problem_type="regression")


def found(ids, loss=None):
    ids = np.array(ids)
    loss = np.ones(len(ids)) if loss is None else np.array(loss)
    scores = {"score": np.full(ids.shape, 0.75), "brier": np.full(len(ids), 0.25), "nll": np.full(len(ids), 0.5)}
    return {"ids": ids, "loss": loss, "count": np.ones(len(ids), int), **scores}


def test_all_are_metrics_of_evaluate():
    for metric in (LabelMetric, MultiLabelMetric, RegressionMetric, TagMetric):
        assert issubclass(metric, Metric)


def test_f1_is_conllevals_and_strict_f1_counts_only_what_iob2_allows():
    gold = [["B-x", "I-x", "O", "B-y"]]
    # By hand: the first entity begins with I-, which conlleval takes for an entity and IOB2 does not.
    predicted = [["I-x", "I-x", "O", "B-y"]]
    scores = TagMetric().compute(predictions=predicted, references=gold)
    assert scores == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "strict_f1": pytest.approx(2 / 3)}


def test_precision_and_recall_count_whole_entities():
    gold = [["B-x", "I-x", "O", "B-y"], ["O", "B-x"]]
    predicted = [["B-x", "O", "O", "B-y"], ["B-z", "B-x"]]
    scores = TagMetric().compute(predictions=predicted, references=gold)
    assert scores["precision"] == pytest.approx(2 / 4)
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))


def test_accuracy_and_macro_f1():
    scores = LabelMetric().compute(predictions=[0, 0, 1, 1], references=[0, 0, 0, 1])
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((0.8 + 2 / 3) / 2)}


def test_several_labels_and_numbers():
    scores = MultiLabelMetric().compute(predictions=[[1, 0], [1, 1]], references=[[1, 0], [0, 1]])
    assert scores["accuracy"] == 0.5
    assert scores["micro_f1"] == pytest.approx(0.8)
    scores = RegressionMetric().compute(predictions=[[1.0], [2.0]], references=[[1.0], [4.0]])
    assert scores == {"mse": 2.0, "mae": 1.0}


def test_joint_accuracy_counts_rows_with_every_task_right():
    prediction = EvalPrediction(
        predictions={
            "intent": found([0, 1, 1, 0]),
            "slots": found([[0, 1], [0, 1], [1, 2], [0, 0]], loss=[1.0, 2.0, 3.0, 4.0]),
            "grade": found([[1.0], [1.0], [1.0], [1.0]]),
        },
        label_ids={
            "intent": np.array([0, 0, 1, -100]),
            # Right; right; right but for a word that has no label; a row that is not fully labelled.
            "slots": np.array([[0, 1], [0, 1], [1, -100], [0, 0]]),
            "grade": np.array([[9.0], [9.0], [9.0], [9.0]]),
        },
    )
    metrics = build_compute_metrics([INTENT, SLOTS, GRADE])(prediction)
    assert metrics["joint_accuracy"] == pytest.approx(2 / 3)
    assert metrics["slots_loss"] == 2.5
    assert metrics["loss"] == pytest.approx(1.0 + 2 * 2.5 + 1.0)
    assert metrics["intent_accuracy"] == pytest.approx(2 / 3)
    assert {*metrics, "mean_score"} == set(task_metric_names([INTENT, SLOTS, GRADE]))


def test_without_a_fully_labeled_row_the_mean_of_the_tasks_scores_replaces_joint_accuracy():
    prediction = EvalPrediction(
        predictions={"intent": found([0, 1, 0]), "slots": found([[0, 0], [0, 1], [1, 2]])},
        label_ids={
            "intent": np.array([0, 0, -100]),
            "slots": np.array([[-100, -100], [-100, -100], [1, 2]]),
        },
    )
    metrics = build_compute_metrics([INTENT, SLOTS])(prediction)
    assert "joint_accuracy" not in metrics
    assert metrics["mean_score"] == pytest.approx((0.5 + 1.0) / 2)


def test_names_come_in_the_order_of_a_report():
    names = [name for name in task_metric_names([INTENT, SLOTS]) if name != "mean_score"]
    assert without_calibration(names) == METRIC_NAMES
    calibration = [f"{task}_{name}" for task in ("intent", "slots") for name in ("ece", "brier", "nll")]
    assert names == [*METRIC_NAMES, *calibration]
