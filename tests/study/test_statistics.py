"""Bootstrap intervals against known values, and Pareto fronts."""

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


def correct_rows(share, rows=1000):
    """Return the correctness of rows, of which a share is correct."""
    return (np.arange(rows) < share * rows).astype(float)


def difference(one, other, seed=0):
    """Return the interval of the difference in accuracy between two runs."""
    stacked = np.stack([one, other])
    resampled = bootstrap_scores(stacked, np.ones_like(stacked), seed=seed)
    scores = stacked.mean(axis=1)
    return mean_difference(scores[:1], scores[1:], resampled[:, :1], resampled[:, 1:])


def test_the_interval_of_a_share_matches_the_binomial_distribution():
    rows = correct_rows(0.8)
    interval = difference(rows, np.zeros_like(rows))
    sd = math.sqrt(0.8 * 0.2 / 1000)
    assert interval.mean == pytest.approx(0.8)
    assert (interval.low, interval.high) == pytest.approx((0.8 - 1.96 * sd, 0.8 + 1.96 * sd), abs=0.003)


def test_a_pair_differs_only_where_its_rows_do():
    """McNemar: 30 rows are correct in one run only, 10 in the other only; all else cancels out."""
    one, other = np.zeros(1000), np.zeros(1000)
    one[:530], other[:500], other[900:910] = 1, 1, 1
    interval = difference(one, other)
    sd = math.sqrt(40 / 1000 - 0.02**2) / math.sqrt(1000)
    assert interval.mean == pytest.approx(0.02)
    assert (interval.low, interval.high) == pytest.approx((0.02 - 1.96 * sd, 0.02 + 1.96 * sd), abs=0.002)
    assert interval.excludes_zero


def test_a_run_does_not_differ_from_itself():
    interval = difference(correct_rows(0.7), correct_rows(0.7))
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert not interval.excludes_zero


def test_seeds_that_differ_widen_the_interval():
    rows = np.stack([correct_rows(0.9), correct_rows(0.7), correct_rows(0.8), correct_rows(0.8)])
    resampled = bootstrap_scores(rows, np.ones_like(rows))
    scores = rows.mean(axis=1)
    interval = mean_difference(scores[:2], scores[2:], resampled[:, :2], resampled[:, 2:])
    assert interval.mean == pytest.approx(0)
    # Two pairs, +0.1 and -0.1: a quarter of the draws take the first pair twice, and a quarter the second.
    assert interval.low == pytest.approx(-0.1, abs=0.03)
    assert interval.high == pytest.approx(0.1, abs=0.03)


def test_f1_is_a_ratio_of_sums_and_0_without_entities():
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


def test_many_rows_are_resampled_in_blocks():
    rows = np.stack([correct_rows(0.5, 100_000)])
    scores = bootstrap_scores(rows, np.ones_like(rows), resamples=90)
    assert scores.shape == (90, 1)
    assert scores.std() == pytest.approx(math.sqrt(0.25 / 100_000), rel=0.3)


def test_the_mean_of_one_value_has_no_deviation():
    assert mean_and_sd([0.5]) == (0.5, None)
    assert mean_and_sd([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))


def test_the_front_contains_the_points_that_no_other_beats():
    points = {"slow": (9, 0.9), "best": (5, 0.9), "fast": (1, 0.5), "poor": (2, 0.4), "middle": (3, 0.7)}
    assert pareto_front(points) == ["fast", "middle", "best"]
    assert pareto_front({}) == []


def test_the_better_of_two_equally_fast_points_is_on_the_front():
    assert pareto_front({"worse": (1, 0.4), "better": (1, 0.6)}) == ["better"]
