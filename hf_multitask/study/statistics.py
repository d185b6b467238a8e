"""Confidence intervals by a paired bootstrap, and Pareto fronts."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
# Weights computed at once, so that many rows do not need much memory.
_BLOCK_SIZE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean difference and its confidence interval.

    Args:
        mean: Mean difference.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether chance alone does not explain the difference: the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


def ratio_scores(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return scores that are a sum divided by another sum; 0 if both are 0.

    Args:
        numerators: Sums (…).
        denominators: Sums (…).
    """
    return np.divide(numerators, denominators, out=np.zeros_like(numerators, dtype=float), where=denominators != 0)


def bootstrap_scores(
    numerators: np.ndarray, denominators: np.ndarray, resamples: int = NUM_RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Score runs on resampled rows, each time the same rows for all runs.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 6: rows are drawn with replacement.

    Args:
        numerators: Contribution of each row to the numerator of each run's score (num_runs, num_rows).
        denominators: Contribution to the denominator (num_runs, num_rows).
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Scores (resamples, num_runs). The scores of one resample can be compared with each other.
    """
    # How often each row is drawn is all that a score depends on, so a resample is a vector of counts and all runs are
    # scored by a matrix product. scipy.stats.bootstrap gathers the rows of each resample: two to seven times slower.
    generator = np.random.default_rng(seed)
    num_rows = numerators.shape[1]
    shares = np.full(num_rows, 1 / num_rows)
    scores = []
    block = max(_BLOCK_SIZE // num_rows, 1)
    for first in range(0, resamples, block):
        counts = generator.multinomial(num_rows, shares, size=min(block, resamples - first)).astype(float)
        scores.append(ratio_scores(counts @ numerators.T, counts @ denominators.T))
    return np.concatenate(scores)


def mean_difference(
    scores: np.ndarray, others: np.ndarray, resampled: np.ndarray, others_resampled: np.ndarray
) -> Interval:
    """Return the mean difference between paired runs, with an interval over rows and seeds.

    Runs at the same position are a pair: they have the same seed. In addition to the rows, the pairs are drawn with
    replacement, so that the interval covers the variation between seeds if there are several.

    Args:
        scores: Scores on the original rows (num_seeds).
        others: Scores of the other runs (num_seeds).
        resampled: Scores of the runs on resampled rows (resamples, num_seeds), from `bootstrap_scores`.
        others_resampled: Scores of the other runs on the same resampled rows.
    """
    resamples, num_seeds = resampled.shape
    pairs = np.random.default_rng(1).integers(num_seeds, size=(resamples, num_seeds))
    differences = np.take_along_axis(resampled - others_resampled, pairs, axis=1).mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(float(np.mean(scores - others)), float(low), float(high))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, which is None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points that no other point beats.

    A point beats another if it is as fast and better, or faster and as good.

    Args:
        points: Time and score by name; higher scores are better.

    Returns:
        The names, fastest first.
    """
    front, best = [], -math.inf
    for name, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if score > best:
            front.append(name)
            best = score
    return front
