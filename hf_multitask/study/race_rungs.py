"""Rungs of a race, and which scenarios go on after each.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization": at most one of
``REDUCTION`` scenarios goes on after each rung. A scenario that a paired test finds worse drops out before that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .statistics import Interval

# Each rung has so many times the rows of the one below.
GROWTH = 4
# Fewer rows say little about more: the lowest rung has at least as many.
MIN_ROWS = 50
MAX_SIZES = 3
REDUCTION = 2
# So many are compared with all rows, so that there is a difference to report.
MIN_KEPT = 2
# Another seed is trained only while the rows of all trainings stay below this share of the rows of the full study.
SHARE = 0.35

WORSE, BEHIND = "worse beyond chance", "not in the better half"


@dataclass(frozen=True)
class Rung:
    """One round of a race: each scenario that is left is trained with these rows and seeds.

    Args:
        size: Number of training rows.
        seeds: Seeds, those of the rung below included if it has as many rows.
    """

    size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RungResult:
    """Result of a rung. Scores are higher for better scenarios.

    Args:
        rung: The rung.
        entered: Names of the scenarios that were left.
        scores: Mean score by name of the scenarios that were trained. One whose stages do not fit into so short a run
            is not, and goes on.
        seconds: Mean training time in seconds, by name.
        best: The scenario with the highest score.
        differences: Score of each other scenario minus that of the best, paired by row and seed.
        dropped: Reason by name of the scenarios that drop out.
        is_complete: Whether all trainings of the rung were finished; if not, nothing drops out.
    """

    rung: Rung
    entered: tuple[str, ...]
    scores: Mapping[str, float]
    seconds: Mapping[str, float]
    best: str
    differences: Mapping[str, Interval]
    dropped: Mapping[str, str]
    is_complete: bool

    @property
    def left(self) -> tuple[str, ...]:
        """Names of the scenarios that go on, in the order in which they entered."""
        return tuple(name for name in self.entered if name not in self.dropped)

    @property
    def ranking(self) -> list[str]:
        """Names of the scenarios that were trained, best first."""
        return sorted(self.scores, key=lambda name: -self.scores[name])


def rung_sizes(size: int) -> list[int]:
    """Return the numbers of training rows of a race's rungs, ascending.

    Args:
        size: Number of training rows of the full setting.
    """
    sizes = [size]
    while len(sizes) < MAX_SIZES and sizes[-1] // GROWTH >= MIN_ROWS:
        sizes.append(sizes[-1] // GROWTH)
    return sizes[::-1]


def plan_rungs(size: int, seeds: Sequence[int]) -> list[Rung]:
    """Return the rungs of a race: more and more rows with the first seed, then one seed more with all rows.

    Args:
        size: Number of training rows of the full setting.
        seeds: Seeds of the full setting.
    """
    rows = [Rung(number, (seeds[0],)) for number in rung_sizes(size)]
    return rows + [Rung(size, tuple(seeds[: i + 1])) for i in range(1, len(seeds))]


def is_worth(rung: Rung, results: Sequence[RungResult], num_left: int, full_rows: int) -> bool:
    """Return whether a rung is trained.

    A rung of more rows is. A rung of one more seed is if the race keeps within its share of the full study.

    Args:
        rung: The rung.
        results: Results of the rungs before.
        num_left: Number of scenarios that are left.
        full_rows: Rows of all trainings of the full study.
    """
    if num_left < MIN_KEPT:
        return False
    trained = sum(len(result.scores) * result.rung.size for result in results)
    return len(rung.seeds) == 1 or trained + num_left * rung.size <= SHARE * full_rows


def drop(scores: Mapping[str, float], differences: Mapping[str, Interval], best: str) -> dict[str, str]:
    """Return the reason by name of the scenarios that drop out after a rung.

    Args:
        scores: Score of each scenario.
        differences: Difference of each scenario from the best one.
        best: Name of the best one.
    """
    dropped = {name: WORSE for name, difference in differences.items() if difference.high < 0}
    ranked = sorted((name for name in scores if name not in dropped), key=lambda name: (name != best, -scores[name]))
    kept = max(math.ceil(len(scores) / REDUCTION), MIN_KEPT)
    return dropped | dict.fromkeys(ranked[kept:], BEHIND)
