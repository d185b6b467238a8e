"""Results of a search, as ``trials.json`` contains them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..models.table_repr import ReprTable, ShownAsTable
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from .parameters import Value

TRIALS_NAME = "trials.json"


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial.

    Args:
        number: Number of the trial, in the order in which trials began.
        value: Score on validation; of a pruned trial, its best score until then, None if it had none.
        pruned: Whether it was stopped because others were better.
        seconds: Training time with evaluations, in seconds.
        values: Values by key of the config.
    """

    number: int
    value: float | None
    pruned: bool
    seconds: float
    values: Mapping[str, Value]


@dataclass(frozen=True, repr=False)
class TuningResult(ShownAsTable):
    """Results of a search. Printed as a table of the trials, best first.

    Args:
        folder: Folder of the search.
        metric: Metric of the search, on validation.
        maximize: Whether a greater value is better.
        base: Values of the config that the search started from, by key.
        trials: The finished trials. One of them is the config itself.
        best: Number of the best trial.
        importance: Share of each key in the differences between the trials; empty if there are too few trials.
        scores: Metrics of the winner by split and seed.
    """

    folder: Path
    metric: str
    maximize: bool
    base: Mapping[str, Value]
    trials: Sequence[TrialResult]
    best: int
    importance: Mapping[str, float]
    scores: Mapping[str, Mapping[int, Mapping[str, float]]]

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the trials."""
        keys = list(self.base)
        rows = [
            [
                str(trial.number),
                "pruned" if trial.value is None or trial.pruned else f"{trial.value:.4f}",
                *(str(trial.values.get(key, "")) for key in keys),
            ]
            for trial in self.ranking
        ]
        return [ReprTable(f"Search for {self.metric}", ("trial", self.metric, *keys), rows)]

    @property
    def ranking(self) -> list[TrialResult]:
        """The trials, best first; of equal ones the earlier first, and pruned ones last."""
        return sorted(self.trials, key=lambda trial: rank(trial, self.maximize))

    @property
    def base_trial(self) -> TrialResult:
        """The trial of the config itself."""
        return next(trial for trial in self.trials if trial.values == self.base)

    @property
    def best_trial(self) -> TrialResult:
        """The best trial."""
        return next(trial for trial in self.trials if trial.number == self.best)

    def summary(self, split: str) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation over the seeds of each metric of the winner.

        Args:
            split: ``"validation"`` or ``"test"``.
        """
        by_seed = list(self.scores.get(split, {}).values())
        names = [name for name in (by_seed[0] if by_seed else {}) if all(name in metrics for metrics in by_seed)]
        return {name: _mean_and_deviation([metrics[name] for metrics in by_seed]) for name in names}

    def to_dict(self) -> JsonObject:
        """Return the results as JSON can contain them."""
        return {**asdict(self), "folder": str(self.folder)}

    def save(self) -> Path:
        """Write the results to ``trials.json`` in the folder of the search."""
        path = self.folder / TRIALS_NAME
        write_json(path, self.to_dict())
        return path


def rank(trial: TrialResult, maximize: bool) -> tuple[bool, float, int]:
    """Return what trials are sorted by, best first."""
    if trial.value is None:
        return trial.pruned, math.inf, trial.number
    return trial.pruned, -trial.value if maximize else trial.value, trial.number


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
