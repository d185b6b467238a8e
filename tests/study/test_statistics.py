"""The bootstrap against known values, and the Pareto front."""

import math

import numpy as np
import pytest

from hf_multitask.study.statistics import (
    bootstrap_scores,
    mean_and_sd,
    mean_difference,
    pareto_front,
    ratio_scores,
)


def right(share, rows=1000):
    """Return rows of which a share is right."""
    return (np.arange(rows) < share * rows).astype(float)


def difference(one, other, seed=0):
    """Return the interval of two runs' difference in accuracy."""
    stacked = np.stack([one, other])
    resampled = bootstrap_scores(stacked, np.ones_like(stacked), seed=seed)
    scores = stacked.mean(axis=1)
    return mean_difference(scores[:1], scores[1:], resampled[:, :1], resampled[:, 1:])


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    rows = right(0.8)
    found = difference(rows, np.zeros_like(rows))
    sd = math.sqrt(0.8 * 0.2 / 1000)
    assert found.mean == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - 1.96 * sd, 0.8 + 1.96 * sd), abs=0.003)


def test_a_pair_differs_only_where_its_rows_do():
    """McNemar: 30 rows only one run has right, 10 only the other; all else cancels out."""
    one, other = np.zeros(1000), np.zeros(1000)
    one[:530], other[:500], other[900:910] = 1, 1, 1
    found = difference(one, other)
    sd = math.sqrt(40 / 1000 - 0.02**2) / math.sqrt(1000)
    assert found.mean == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - 1.96 * sd, 0.02 + 1.96 * sd), abs=0.002)
    assert found.is_clear


def test_a_run_does_not_differ_from_itself():
    found = difference(right(0.7), right(0.7))
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert not found.is_clear


def test_seeds_that_differ_widen_the_interval():
    rows = np.stack([right(0.9), right(0.7), right(0.8), right(0.8)])
    resampled = bootstrap_scores(rows, np.ones_like(rows))
    scores = rows.mean(axis=1)
    several = mean_difference(scores[:2], scores[2:], resampled[:, :2], resampled[:, 2:])
    assert several.mean == pytest.approx(0)
    # Two pairs of +0.1 and -0.1: a quarter of the draws have the same one twice, on either side.
    assert several.low == pytest.approx(-0.1, abs=0.03)
    assert several.high == pytest.approx(0.1, abs=0.03)


def test_f1_is_a_ratio_of_sums_and_0_without_any_entity():
    assert ratio_scores(np.array([2.0, 0.0]), np.array([4.0, 0.0])).tolist() == [0.5, 0.0]
    numerators, denominators = np.array([[2.0, 0.0, 2.0]]), np.array([[2.0, 2.0, 4.0]])
    scores = bootstrap_scores(numerators, denominators, resamples=500)
    assert set(np.round(scores[:, 0], 4)) <= {
        round((2 * a + 2 * c) / (2 * a + 2 * b + 4 * c), 4)
        for a in range(4)
        for b in range(4)
        for c in range(4)
        if a + b + c == 3
    }


def test_many_rows_are_taken_in_blocks():
    rows = np.stack([right(0.5, 100_000)])
    scores = bootstrap_scores(rows, np.ones_like(rows), resamples=90)
    assert scores.shape == (90, 1)
    assert scores.std() == pytest.approx(math.sqrt(0.25 / 100_000), rel=0.3)


def test_the_mean_of_one_value_has_no_deviation():
    assert mean_and_sd([0.5]) == (0.5, None)
    assert mean_and_sd([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))


def test_the_front_is_what_nothing_beats():
    points = {"slow": (9, 0.9), "best": (5, 0.9), "fast": (1, 0.5), "poor": (2, 0.4), "middle": (3, 0.7)}
    assert pareto_front(points) == ["fast", "middle", "best"]
    assert pareto_front({}) == []


def test_of_equals_in_time_the_better_is_on_the_front():
    assert pareto_front({"worse": (1, 0.4), "better": (1, 0.6)}) == ["better"]
