"""How long rows are."""

from collections import Counter
from dataclasses import dataclass, field
from operator import mul

PERCENTILES = (50, 90, 95, 99)


@dataclass
class Lengths:
    """How long the rows of a split are.

    Args:
        mean: Mean length.
        shortest: Least length.
        longest: Greatest length.
        percentiles: By a percentage such as ``"95"``, the least length that so many of the rows do not exceed.
        lengths: The lengths that occur, ascending.
        rows: For each of them, the number of rows.
    """

    mean: float
    shortest: int
    longest: int
    percentiles: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, counts: Counter[int]) -> "Lengths":
        """Summarise lengths.

        Args:
            counts: Number of rows by length; not empty.
        """
        lengths = sorted(counts)
        rows = [counts[length] for length in lengths]
        total = sum(map(mul, lengths, rows))
        percentiles = {str(percent): _percentile(counts, lengths, percent) for percent in PERCENTILES}
        return cls(total / counts.total(), lengths[0], lengths[-1], percentiles, lengths, rows)

    @property
    def total(self) -> int:
        """The lengths of all rows together."""
        return sum(map(mul, self.lengths, self.rows))


def _percentile(counts: Counter[int], lengths: list[int], percent: int) -> int:
    covered = 0
    for length in lengths:
        covered += counts[length]
        if covered * 100 >= percent * counts.total():
            return length
    return lengths[-1]
