"""Expected calibration error, Brier score and negative log-likelihood, computed by hand."""

import numpy as np
import pytest

from hf_multitask import TaskConfig
from hf_multitask.training.calibration import (
    Confidences,
    calibration_metric_names,
    calibration_scores,
    equal_mass_bins,
    expected_calibration_error,
    find_confidences,
)

INTENT = TaskConfig("intent", "sequence_classification", ["a", "b"], problem_type="single_label_classification")
TOPICS = TaskConfig("topics", "sequence_classification", ["x", "y"], problem_type="multi_label_classification")
GRADE = TaskConfig("grade", "sequence_classification", problem_type="regression")
SLOTS = TaskConfig("slots", "token_classification", ["O", "B-x", "I-x"])


def test_bins_have_the_same_number_of_items_and_the_error_weighs_them_by_size():
    scores = np.array([0.9, 0.1, 0.5, 0.7, 0.3])
    right = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    bins = equal_mass_bins(Confidences(scores, right), num_bins=2)
    assert bins.sizes.tolist() == [3, 2]
    assert bins.scores.tolist() == pytest.approx([0.3, 0.8])
    assert bins.right.tolist() == pytest.approx([1 / 3, 1.0])
    # Five items in fifteen bins: each is its own bin.
    assert expected_calibration_error(Confidences(scores, right)) == pytest.approx((0.1 + 0.1 + 0.5 + 0.3 + 0.7) / 5)


def test_the_error_of_scores_that_are_the_shares_of_right_ones_is_small():
    generator = np.random.default_rng(0)
    scores = generator.uniform(size=30_000)
    right = (generator.uniform(size=30_000) < scores).astype(float)
    assert expected_calibration_error(Confidences(scores, right)) < 0.01
    assert expected_calibration_error(Confidences(np.sqrt(scores), right)) > 0.1
    assert expected_calibration_error(Confidences(np.zeros(0), np.zeros(0))) == 0


def test_one_label_per_row_leaves_out_rows_without_a_label_that_train_has():
    values = {
        "ids": np.array([0, 1, 0, 0]),
        "score": np.array([0.8, 0.6, 0.9, 0.9]),
        "brier": np.array([0.08, 0.72, 9.0, 9.0]),
        "nll": np.array([0.2, 0.9, 9.0, 9.0]),
    }
    scores = calibration_scores(INTENT, values, np.array([0, 0, -100, -105]))
    assert scores == {
        "ece": pytest.approx((0.2 + 0.6) / 2),
        "brier": pytest.approx(0.4),
        "nll": pytest.approx(0.55),
    }


def test_several_labels_per_row_are_items_of_their_own():
    values = {"ids": np.zeros((2, 2)), "score": np.array([[0.9, 0.2], [0.5, 0.5]])}
    scores = calibration_scores(TOPICS, values, np.array([[1.0, 0.0], [np.nan, np.nan]]))
    assert scores == {
        "ece": pytest.approx((0.1 + 0.2) / 2),
        "brier": pytest.approx((0.01 + 0.04) / 2),
        "nll": pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2),
    }


def test_predicted_entities_are_right_if_type_and_boundaries_are():
    ids = np.array([[1, 2, 0, 1], [1, 0, 1, 0]])
    gold = np.array([[1, 2, -100, 1], [1, 2, 0, -100]])
    probabilities = np.array([[0.9, 0.7, 0.1, 1.0], [0.6, 0.6, 0.4, 0.6]])
    found = find_confidences(SLOTS, {"ids": ids, "score": probabilities}, gold)
    # The first two words, then words without a label between them are no words; the second row has a shorter entity
    # than the gold one, and one that is not there.
    assert found.scores.tolist() == pytest.approx([0.8, 1.0, 0.6, 0.4])
    assert found.right.tolist() == [True, True, False, False]
    scores = calibration_scores(SLOTS, {"ids": ids, "score": probabilities}, gold)
    assert scores["ece"] == pytest.approx((0.2 + 0 + 0.6 + 0.4) / 4)
    assert scores["brier"] == pytest.approx((0.04 + 0 + 0.36 + 0.16) / 4)
    assert scores["nll"] == pytest.approx(-(np.log(0.8) + 0 + np.log(0.4) + np.log(0.6)) / 4)


def test_numbers_and_rows_without_entities_have_no_scores():
    assert calibration_metric_names(GRADE) == ()
    assert calibration_scores(GRADE, {"ids": np.ones((1, 1))}, np.ones((1, 1))) == {}
    assert (
        calibration_scores(SLOTS, {"ids": np.zeros((1, 2), int), "score": np.ones((1, 2))}, np.ones((1, 2), int)) == {}
    )
