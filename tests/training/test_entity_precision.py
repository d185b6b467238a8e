"""Minimum scores for a wanted precision of entities, and the scores of answers, by hand."""

import logging

import numpy as np
import pytest

from hf_multitask import TaskConfig
from hf_multitask.training.entity_precision import (
    ANSWER_METRICS,
    MIN_ENTITIES,
    MIN_KEPT,
    answer_metric_names,
    answered_ids,
    fit_min_score,
    set_min_scores,
)
from hf_multitask.training.metrics import build_compute_metrics
from hf_multitask.training.temperature import PredictedEntities

LABELS = ["O", "B-x", "I-x", "B-y", "I-y"]


def slots(**values):
    return TaskConfig("slots", "token_classification", LABELS, **values)


def entities(**right_by_type):
    """Entities of each type with equally spaced scores from 1 down, right where the string has a 1."""
    scores = np.concatenate([np.linspace(1, 0.01, len(right)) for right in right_by_type.values()])
    right = np.array([float(mark) for marks in right_by_type.values() for mark in marks])
    types = np.repeat(list(right_by_type), [len(marks) for marks in right_by_type.values()])
    return PredictedEntities(scores, right, types)


def test_the_lowest_score_with_the_precision_is_chosen_by_type():
    # Of the first 80 entities of x, 4 are wrong: 0.95. The next one is wrong, and the others are too.
    x = "1" * 76 + "0" * 24
    y = "1" * 60
    found = entities(x=x, y=y)
    fit = fit_min_score(slots(entity_precision=0.95), found)
    kept = found.scores >= np.array([fit.min_score[kind] for kind in found.types])
    assert kept[:80].all()
    assert not kept[80:100].any()
    assert kept[100:].all()
    assert fit.min_score["y"] == 0
    assert (fit.entities, fit.left_out, fit.missed) == (160, 20, {})
    assert fit.precision == pytest.approx((76 + 60) / 140)
    assert fit.precision_of_all == pytest.approx((76 + 60) / 160)


def test_types_with_few_entities_have_the_minimum_of_all():
    x = "1" * 76 + "0" * 24
    of_all = fit_min_score(slots(entity_precision=0.95), entities(x=x[: MIN_ENTITIES - 1]))
    assert of_all.min_score == 0.0
    fit = fit_min_score(slots(entity_precision=0.9), entities(x=x, y="0" * (MIN_ENTITIES - 1)))
    assert fit.min_score["y"] != fit.min_score["x"]
    # Without y, x would be kept down to 84 of 100.
    assert fit.min_score["x"] == pytest.approx(1 - 83.5 * 0.01, abs=1e-6)


def test_a_precision_that_cannot_be_reached_is_named(caplog):
    task = slots(entity_precision=0.95)
    # The surest of x are wrong: the best is all of the right ones after them.
    fit = fit_min_score(task, entities(x="0" * 10 + "1" * 50 + "0" * 20, y="1" * 60))
    assert fit.missed == {"x": pytest.approx(50 / 60)}
    with caplog.at_level(logging.INFO):
        assert set_min_scores([task], {"slots": fit}) == {"slots": fit}
    assert task.min_score == fit.min_score
    warning = next(record for record in caplog.records if record.levelname == "WARNING")
    assert "entity_precision of 95.0% is not reached on validation by x (at most 83.3%)" in warning.getMessage()
    assert "leaves out 20 of 140 entities" in caplog.text
    # A minimum keeps MIN_KEPT entities, however right fewer are.
    few = fit_min_score(task, entities(x="1" * (MIN_KEPT - 5) + "0" * 40))
    assert few.missed == {"x": pytest.approx((MIN_KEPT - 5) / MIN_KEPT)}


def test_equal_scores_are_kept_together():
    scores = np.repeat([0.9, 0.5], [30, 30])
    right = np.array([1.0] * 31 + [0.0] * 29)
    fit = fit_min_score(slots(entity_precision=0.95), PredictedEntities(scores, right, np.repeat("x", 60)))
    assert fit.min_score["x"] == pytest.approx(0.7)


def test_without_entities_nothing_is_set(caplog):
    task = slots(entity_precision=0.95, min_score=0.5)
    none = PredictedEntities(np.zeros(0), np.zeros(0), np.zeros(0))
    assert fit_min_score(task, none) is None
    with caplog.at_level(logging.INFO):
        assert set_min_scores([task], {"slots": None}) == {}
    assert task.min_score == 0.5
    assert "no entity was predicted" in caplog.text


def test_scores_of_answers_by_hand():
    task = slots(min_score={"x": 0.8})
    ids = np.array([[1, 2, 0, 3], [1, 0, 0, 0]])
    labels = np.array([[1, 2, 0, 3], [0, 1, -100, -100]])
    # The mean of the first entity is 0.8; the second x is below; y has no minimum.
    values = {
        "ids": ids,
        "score": np.array([[0.9, 0.7, 1.0, 0.1], [0.7, 0.9, 0.9, 0.9]]),
        "loss": np.zeros(2),
        "count": np.ones(2),
    }
    kept, left_out = answered_ids(task, values, labels)
    assert left_out == 1
    assert kept.tolist() == [[1, 2, 0, 3], [0, 0, 0, 0]]
    assert ids[1, 0] == 1
    prediction = type("Prediction", (), {"predictions": {"slots": values}, "label_ids": {"slots": labels}})
    metrics = build_compute_metrics([task])(prediction)
    found = {name: metrics[f"slots_{name}"] for name in ANSWER_METRICS}
    assert found == {
        "answer_precision": 1.0,
        "answer_recall": pytest.approx(2 / 3),
        "answer_f1": pytest.approx(0.8),
        "left_out": 1,
    }
    assert metrics["slots_precision"] == pytest.approx(2 / 3)
    assert answer_metric_names(task) == ANSWER_METRICS
    assert answer_metric_names(slots()) == ()
    assert "slots_left_out" not in build_compute_metrics([slots()])(prediction)
