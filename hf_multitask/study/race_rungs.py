"""Rungs of a race, and which scenarios go on after each.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization": at most one of
``REDUCTION`` scenarios goes on after each rung. A scenario that a paired test finds worse drops out before that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .statistics import Interval

# Each rung trains so many times as long as the one below.
GROWTH = 4
# Fewer rows say little about more: the lowest rung has at least as many, and fewer epochs instead.
MIN_ROWS = 50
# Fewer optimizer steps say little too.
MIN_STEPS = 20
MAX_LENGTHS = 3
REDUCTION = 2
# So many are compared with all rows, so that there is a difference to report.
MIN_KEPT = 2
# Another seed is trained only while all trainings stay below this share of the full study's passes over rows. Those
# that are left train more layers than the others do, so their share of its time is larger. Times do not decide: they
# would differ from those of another machine.
SHARE = 0.25

WORSE, BEHIND = "worse beyond chance", "not in the better half"


@dataclass(frozen=True)
class Length:
    """How long the trainings of a rung are.

    Args:
        size: Number of training rows.
        shortening: The trainings have one of so many epochs of the full setting.
    """

    size: int
    shortening: int = 1

    @property
    def passes(self) -> float:
        """Rows that a training sees per epoch of the full setting, with which its time grows."""
        return self.size / self.shortening

    @property
    def text(self) -> str:
        """The length in words."""
        return f"{self.size:,} rows" + ("" if self.shortening == 1 else f", 1/{self.shortening} of the epochs")


@dataclass(frozen=True)
class Rung:
    """One round of a race: each scenario that is left is trained with these rows, epochs and seeds.

    Args:
        length: Rows and epochs.
        seeds: Seeds, those of the rung below included if it is as long.
    """

    length: Length
    seeds: tuple[int, ...]

    @property
    def text(self) -> str:
        """Rows, epochs and number of seeds in words."""
        seeds = len(self.seeds)
        return f"{self.length.text} and {seeds} {'seed' if seeds == 1 else 'seeds'}"


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
        return sorted(self.scores, key=lambda name: (name != self.best, -self.scores[name]))


def rung_lengths(size: int, steps: int) -> list[Length]:
    """Return the lengths of a race's trainings, ascending.

    Args:
        size: Number of training rows of the full setting.
        steps: Optimizer steps of its trainings.
    """
    lengths = [Length(size)]
    while len(lengths) < MAX_LENGTHS and steps // GROWTH >= MIN_STEPS:
        last, steps = lengths[-1], steps // GROWTH
        fewer = last.size // GROWTH
        lengths.append(
            replace(last, size=fewer) if fewer >= MIN_ROWS else replace(last, shortening=GROWTH * last.shortening)
        )
    return lengths[::-1]


def plan_rungs(lengths: Sequence[Length], seeds: Sequence[int]) -> list[Rung]:
    """Return the rungs of a race: longer and longer with the first seed, then one seed more at full length.

    Args:
        lengths: Return value of `rung_lengths`.
        seeds: Seeds of the full setting.
    """
    longer = [Rung(length, (seeds[0],)) for length in lengths]
    return longer + [Rung(lengths[-1], tuple(seeds[: i + 1])) for i in range(1, len(seeds))]


def is_worth(rung: Rung, results: Sequence[RungResult], num_left: int, full_passes: float) -> bool:
    """Return whether a rung is trained.

    A longer one is. One of another seed is if the race keeps within its share of the full study.

    Args:
        rung: The rung.
        results: Results of the rungs before.
        num_left: Number of scenarios that are left.
        full_passes: `Length.passes` of all trainings of the full study.
    """
    if num_left < MIN_KEPT:
        return False
    # Each rung trains one seed of its scenarios.
    trained = sum(len(result.scores) * result.rung.length.passes for result in results)
    return len(rung.seeds) == 1 or trained + num_left * rung.length.passes <= SHARE * full_passes


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
