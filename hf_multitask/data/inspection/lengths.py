"""Lengths of rows, summarized."""

from collections import Counter
from dataclasses import dataclass, field
from operator import mul

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass
class Lengths:
    """Lengths of the rows of a split.

    Args:
        mean: Mean length.
        shortest: Minimum length.
        longest: Maximum length.
        percentiles: By percentage, such as ``"95"``, the smallest length that this share of the rows does not exceed.
        lengths: All lengths that occur, in ascending order.
        rows: Number of rows of each length.
    """

    mean: float
    shortest: int
    longest: int
    percentiles: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, counts: Counter[int]) -> "Lengths":
        """Summarize lengths.

        Args:
            counts: Number of rows by length; not empty.
        """
        lengths = sorted(counts)
        rows = [counts[length] for length in lengths]
        # Integers only: with floats, 95 % of the rows could be one row too many.
        covered = 100 * np.cumsum(rows)
        percentiles = {
            str(percent): lengths[np.searchsorted(covered, percent * counts.total())] for percent in PERCENTILES
        }
        mean = sum(map(mul, lengths, rows)) / counts.total()
        return cls(mean, lengths[0], lengths[-1], percentiles, lengths, rows)

    @property
    def total(self) -> int:
        """Sum of the lengths of all rows."""
        return sum(map(mul, self.lengths, self.rows))
