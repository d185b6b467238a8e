"""Record of a training run: reading ``trainer.state.log_history``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

EVAL_PREFIX = "eval_"
LEARNING_RATE_PREFIX = "learning_rate_"
# Endings of the timings that the Trainer adds to the metrics.
TIMINGS = ("runtime", "samples_per_second", "steps_per_second")

LogEntry: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation on the validation data.

    Args:
        step: Optimizer steps so far.
        metrics: Metrics by name, without ``eval_``.
        train_loss: Mean training loss logged since the previous evaluation; None if none was logged.
        epoch: Epochs so far; None if the record does not contain them.
    """

    step: int
    metrics: Mapping[str, float]
    train_loss: float | None = None
    epoch: float | None = None

    @property
    def gap(self) -> float | None:
        """Validation loss minus training loss; None if one of them is missing."""
        if self.train_loss is None or "loss" not in self.metrics:
            return None
        return self.metrics["loss"] - self.train_loss

    @property
    def scores(self) -> dict[str, float]:
        """The metrics without the Trainer's timings."""
        return {name: value for name, value in self.metrics.items() if not name.endswith(TIMINGS)}


class TrainingHistory:
    """Record of a training run.

    Args:
        entries: ``trainer.state.log_history``.
    """

    def __init__(self, entries: Sequence[LogEntry]) -> None:
        self.entries = entries

    @property
    def train_logs(self) -> list[LogEntry]:
        """Entries with a training loss, in order."""
        return [entry for entry in self.entries if "loss" in entry]

    @property
    def eval_logs(self) -> list[LogEntry]:
        """Entries with validation metrics, in order."""
        return [entry for entry in self.entries if any(name.startswith(EVAL_PREFIX) for name in entry)]

    def evaluations(self) -> list[Evaluation]:
        """Return the evaluations, in order.

        Evaluations at the same step, as with several validation sets, are merged into one.
        """
        metrics: dict[int, dict[str, float]] = {}
        train_losses: dict[int, float | None] = {}
        epochs: dict[int, float | None] = {}
        # Weighted sum of the losses since the previous evaluation; an entry is the mean since the entry before it.
        total, steps, last_step = 0.0, 0, 0
        for entry in self.entries:
            values = _with_prefix(entry, EVAL_PREFIX)
            if values:
                step = entry["step"]
                if step not in metrics:
                    train_losses[step] = total / steps if steps else None
                    epochs[step] = entry.get("epoch")
                    total, steps = 0.0, 0
                metrics.setdefault(step, {}).update(values)
            elif "loss" in entry:
                total += entry["loss"] * (entry["step"] - last_step)
                steps += entry["step"] - last_step
                last_step = entry["step"]
        return [Evaluation(step, values, train_losses[step], epochs[step]) for step, values in metrics.items()]

    def kept_evaluation(self, best_step: int | None) -> Evaluation | None:
        """Return the evaluation of the weights that a run kept.

        Args:
            best_step: Step of the best weights if they were loaded at the end; None if the last weights were kept.

        Returns:
            The evaluation; None if there is none.
        """
        kept = [evaluation for evaluation in self.evaluations() if best_step in (None, evaluation.step)]
        return kept[-1] if kept else None

    def final_metrics(self, prefixes: Mapping[str, str], best_step: int | None) -> dict[str, dict[str, float]]:
        """Return the metrics of the weights that a run ended with.

        Args:
            prefixes: Split by prefix of its metrics.
            best_step: Step of the best weights if they were loaded at the end; None if the last weights were kept.

        Returns:
            By split, the last metrics recorded for these weights.
        """
        ends = [i for i, entry in enumerate(self.entries) if "train_runtime" in entry]
        during: Sequence[LogEntry] = self.entries[: ends[-1]] if ends else []
        after = self.entries[ends[-1] :] if ends else self.entries
        if best_step is not None:
            during = [entry for entry in during if entry["step"] == best_step]
        metrics = {}
        for entry in [*during, *after]:
            for prefix, split in prefixes.items():
                values = _with_prefix(entry, prefix)
                scores = {
                    name: value
                    for name, value in values.items()
                    if not name.endswith(TIMINGS) and isinstance(value, (int, float))
                }
                if scores:
                    metrics[split] = scores
        return metrics

    def mean_train_losses(self, start: int, end: int) -> dict[str, float]:
        """Return the mean training losses after one step and up to another.

        Args:
            start: The step before the first one.
            end: The last step.

        Returns:
            Means over the steps: ``loss``, and ``<task>_loss`` for each task.
        """
        sums: dict[str, float] = {}
        steps, last_step = 0, 0
        for entry in self.train_logs:
            length, last_step = entry["step"] - last_step, entry["step"]
            if start < entry["step"] <= end:
                steps += length
                for name, value in entry.items():
                    if name == "loss" or name.endswith("_loss"):
                        sums[name] = sums.get(name, 0.0) + value * length
        return {name: total / steps for name, total in sums.items()}

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return the values of a metric over the run.

        Args:
            name: Name of the metric in the record, with ``eval_`` for validation.

        Returns:
            Pairs of epoch and value.
        """
        return [
            (entry.get("epoch", 0.0), entry[name])
            for entry in self.entries
            if isinstance(entry.get(name), (int, float))
        ]

    def total(self, name: str) -> float:
        """Return the sum of a value over all entries that contain it, such as ``train_runtime``."""
        return sum(entry.get(name, 0) for entry in self.entries)


def select_metrics(metrics: Mapping[str, float] | None, names: Iterable[str], prefix: str) -> dict[str, float]:
    """Return the metrics of a split by their names without the prefix, without the Trainer's timings.

    Args:
        metrics: Metrics as ``Trainer.evaluate`` returns them.
        names: Names of the metrics, in the order to return them in.
        prefix: Prefix of the metrics, without the underscore, such as ``"test"``.

    Returns:
        The metrics among them that exist.
    """
    found = _with_prefix(metrics or {}, f"{prefix}_")
    return {name: found[name] for name in names if found.get(name) is not None}


def _with_prefix(entry: LogEntry, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in entry.items() if name.startswith(prefix)}
