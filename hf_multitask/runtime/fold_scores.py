"""Scores of a cross-validation: by fold, and their mean and standard deviation."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..models.type_aliases import JsonObject

# Names of the scores in the metrics of a run, beside those of its splits.
MEAN, SD = "folds", "folds_sd"


@dataclass(frozen=True)
class FoldResult:
    """Result of the training that held out one fold.

    Args:
        fold: Number of the fold, from 1.
        rows: Number of rows that were held out.
        metrics: Metrics of the kept weights on these rows.
        epochs: Epochs of the kept weights.
        steps: Optimizer steps of the kept weights.
        seconds: Seconds of training and scoring.
    """

    fold: int
    rows: int
    metrics: dict[str, float]
    epochs: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class FoldScores:
    """Scores of a cross-validation.

    Args:
        folds: Results by fold.
    """

    folds: Sequence[FoldResult]

    @property
    def mean(self) -> dict[str, float]:
        """Means of the metrics over the folds that have them."""
        return {name: statistics.fmean(values) for name, values in self._values().items()}

    @property
    def sd(self) -> dict[str, float]:
        """Sample standard deviations of the metrics that at least two folds have."""
        return {name: statistics.stdev(values) for name, values in self._values().items() if len(values) > 1}

    @property
    def epochs(self) -> float:
        """Mean number of epochs of the kept weights."""
        return statistics.fmean(result.epochs for result in self.folds)

    @property
    def steps(self) -> float:
        """Mean number of optimizer steps of the kept weights."""
        return statistics.fmean(result.steps for result in self.folds)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return mean and standard deviation as ``metrics.json`` contains them."""
        return {MEAN: self.mean, SD: self.sd}

    def to_dict(self) -> JsonObject:
        """Return the scores as JSON: by fold, mean, standard deviation, and mean epochs."""
        folds = [asdict(result) for result in self.folds]
        return {"folds": folds, "mean": self.mean, "sd": self.sd, "epochs": self.epochs}

    @classmethod
    def from_dict(cls, values: JsonObject) -> "FoldScores":
        """Build scores from the output of `to_dict`."""
        return cls([FoldResult(**result) for result in values["folds"]])

    def table(self) -> list[list[str]]:
        """Return a header, and a row for each metric: its mean, its standard deviation, its value in each fold."""
        header = ["Metric", "Mean", "SD", *(f"Fold {result.fold}" for result in self.folds)]
        mean, sd = self.mean, self.sd
        rows = [
            [name, _number(mean[name]), _number(sd.get(name)), *(_number(r.metrics.get(name)) for r in self.folds)]
            for name in mean
        ]
        return [header, *rows]

    def _values(self) -> dict[str, list[float]]:
        names = dict.fromkeys(name for result in self.folds for name in result.metrics)
        return {name: [result.metrics[name] for result in self.folds if name in result.metrics] for name in names}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
