"""What scores of a sample tell: intervals by a paired bootstrap, and which runs no other beats."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
# Numbers of one block of weights, so that many rows do not need much memory.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A difference and how far it may be by chance.

    Args:
        mean: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether chance alone does not explain the difference: the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


def ratio_scores(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Return scores that are a sum divided by another; 0 where both are 0.

    Args:
        numerators: Sums (…).
        denominators: Sums (…).
    """
    return np.divide(numerators, denominators, out=np.zeros_like(numerators, dtype=float), where=denominators != 0)


def bootstrap_scores(
    numerators: np.ndarray, denominators: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Score runs on resampled rows, all of them on the same rows each time.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 6: rows are drawn with replacement.

    Args:
        numerators: What each row adds to the numerator of each run's score (num_runs, num_rows).
        denominators: The same of the denominator (num_runs, num_rows).
        resamples: How often rows are drawn.
        seed: Which are drawn.

    Returns:
        The scores (resamples, num_runs). Those of one resample are comparable with each other.
    """
    generator = np.random.default_rng(seed)
    num_rows = numerators.shape[1]
    shares = np.full(num_rows, 1 / num_rows)
    scores = []
    at_once = max(_BLOCK // num_rows, 1)
    for first in range(0, resamples, at_once):
        weights = generator.multinomial(num_rows, shares, size=min(at_once, resamples - first)).astype(float)
        scores.append(ratio_scores(weights @ numerators.T, weights @ denominators.T))
    return np.concatenate(scores)


def mean_difference(
    scores: np.ndarray, others: np.ndarray, resampled: np.ndarray, others_resampled: np.ndarray
) -> Interval:
    """Return the mean difference of the scores of runs from those of others, over rows and seeds.

    Runs of the same place are a pair: they have the same seed. Beside the rows the pairs are drawn with replacement,
    so that the interval holds what seeds do too where there are several.

    Args:
        scores: Scores on the rows as they are (num_seeds).
        others: Those of the other runs (num_seeds).
        resampled: What `bootstrap_scores` gave for the runs (resamples, num_seeds).
        others_resampled: The same for the others, of the same call.
    """
    resamples, num_seeds = resampled.shape
    pairs = np.random.default_rng(1).integers(num_seeds, size=(resamples, num_seeds))
    differences = np.take_along_axis(resampled - others_resampled, pairs, axis=1).mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(float(np.mean(scores - others)), float(low), float(high))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of values and their standard deviation as a sample; None for a single one."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names that nothing beats: no other is as fast and better, or faster and as good.

    Args:
        points: By name its time and its score, of which more is better.

    Returns:
        The names, the fastest first.
    """
    front, best = [], -math.inf
    for name, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if score > best:
            front.append(name)
            best = score
    return front
