"""Stages of a freeze schedule: the layer groups that train, the end of the stage and actions on metrics."""

import inspect
import math
from dataclasses import dataclass, field
from typing import Any

from transformers import SchedulerType
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from ..models.field_types import check_fields
from ..models.layer_groups import HEAD, LayerGroups
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from .converged import Converged, Unit, freezable_units

ACTIONS = ("stop", "refreeze", "lower_lr")
# Lowers the rates when a metric has stopped improving, as `on_worse` does; the others depend on the step only.
PLATEAU = "reduce_lr_on_plateau"
STAGE_SCHEDULERS = tuple(name.value for name in SchedulerType if name.value != "greedy")
# Arguments of torch's ReduceLROnPlateau that a stage takes, with their defaults there. The metric is the stage's own.
_PLATEAU_DEFAULTS: JsonObject = {"metric": "loss", "patience": 10, "factor": 0.1}
# Arguments that the stage gives, and rates, which cannot be those of every group.
_NOT_KWARGS = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "min_lr", "lr_end")
_LOWER_IS_BETTER = ("loss", "mse", "mae", "rmse", "perplexity")


def greater_is_better(metric: str) -> bool:
    """Return whether a higher value of a metric is better: true except for losses, errors and drift."""
    return not metric.endswith(_LOWER_IS_BETTER) and not metric.startswith("drift_")


@dataclass
class Until:
    """End of a stage: when a metric has stopped improving, or when layers have stopped learning.

    Args:
        metric: Name of an evaluation metric, without ``eval_``, or several names. Not with ``converged``.
        patience: Number of consecutive evaluations without an improvement after which the metric has stopped
            improving.
        min_delta: Smallest change that counts as an improvement.
        max_epochs: Maximum length of the stage in epochs.
        max_steps: Maximum length of the stage in optimizer steps.
        when: With several metrics, whether ``"all"`` of them or ``"any"`` must have stopped improving.
        watch_gap: Whether to compare validation and training loss. If the gap between them has grown by more than a
            twentieth of the validation loss since the metric was best, the stage does not end. If the metric is also
            no better than before the stage, the groups that the stage unfroze are frozen again.
        converged: Options by which the stage freezes its layers from the bottom up, as they stop learning. It ends
            when all that may freeze are frozen; the last stage goes on with the rest.
    """

    metric: str | list[str] = field(default_factory=list)
    patience: int = 1
    min_delta: int | float = 0.0
    max_epochs: int | float | None = None
    max_steps: int | None = None
    when: str = "all"
    watch_gap: bool = False
    converged: Converged | None = None

    def __post_init__(self) -> None:
        check_fields(self, "until: ")
        if self.converged is not None:
            for name in ("metric", "watch_gap"):
                if getattr(self, name):
                    raise ValueError(f"until: {name} and converged exclude each other.")
        elif not self.metrics:
            raise ValueError("until: metric is empty; expected the name of a metric, or several.")
        if self.patience < 1:
            raise ValueError(f"until: patience must be at least 1, found {self.patience}.")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"until: min_delta must be at least 0, found {self.min_delta}.")
        if self.max_epochs is not None and self.max_steps is not None:
            raise ValueError("until: max_epochs and max_steps exclude each other.")
        check_positive("until", max_epochs=self.max_epochs, max_steps=self.max_steps)
        if self.when not in ("all", "any"):
            raise ValueError(f"until: {unknown_name_message('when', self.when, ('all', 'any'))}")

    @property
    def metrics(self) -> list[str]:
        """Metrics as a list."""
        return [self.metric] if isinstance(self.metric, str) else self.metric


@dataclass
class OnWorse:
    """Action when a metric gets worse in a stage, or no longer improves.

    Args:
        metric: Name of an evaluation metric, without ``eval_``.
        do: ``"stop"`` ends the training, ``"refreeze"`` freezes the groups until the stage ends, ``"lower_lr"``
            multiplies their learning rate by ``factor`` until then.
        by: Distance from the best value in the stage, the value at its start included, at which the metric counts as
            worse. With 0, every value that is not better than the best counts.
        patience: Number of consecutive evaluations at which the metric must be worse.
        groups: Groups to freeze, or whose learning rate is lowered. Defaults to the head of the task that the metric
            belongs to.
        factor: Factor of the learning rate for ``"lower_lr"``.
    """

    metric: str
    do: str
    by: int | float = 0.0
    patience: int = 1
    groups: str | list[str] | None = None
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "on_worse: ")
        if self.do not in ACTIONS:
            raise ValueError(f"on_worse: {unknown_name_message('do', self.do, ACTIONS)}")
        if not 0 <= self.by < math.inf:
            raise ValueError(f"on_worse: by must be at least 0, found {self.by}.")
        if self.patience < 1:
            raise ValueError(f"on_worse: patience must be at least 1, found {self.patience}.")
        if not 0 < self.factor < 1:
            raise ValueError(f"on_worse: factor must be between 0 and 1, found {self.factor}.")

    def select_groups(self, groups: LayerGroups) -> list[str]:
        """Return the names of the groups to freeze, or whose learning rate is lowered.

        Raises:
            ValueError: If ``groups`` is None and the metric's name does not start with the name of a head.
        """
        if self.groups is not None:
            return groups.select(self.groups)
        owners = [head for head in groups.heads if self.metric.startswith(f"{head.removeprefix(HEAD)}_")]
        if not owners and self.do != "stop":
            raise ValueError(
                f"on_worse: {self.metric!r} is not the metric of a head, found {', '.join(groups.heads)}; set "
                f"`groups` to the layer groups that {self.do!r} applies to."
            )
        return groups.select(max(owners, key=len)) if owners else []


@dataclass
class FreezeStage:
    """Part of a run, with the layer groups that train in it.

    A stage ends after ``epochs``, after ``steps`` or by ``until``. The last stage may have none of them; it ends with
    the run.

    Args:
        name: Name of the stage, in logs and in ``stages.json``.
        train: Selectors of the groups that train.
        freeze: Selectors of groups that do not train although ``train`` selects them.
        epochs: Length in epochs, which may be a fraction.
        steps: Length in optimizer steps.
        until: Metric that ends the stage.
        learning_rate: Peak learning rate of the encoder. Defaults to the run's.
        head_learning_rate: Peak learning rate of the heads. Defaults to the run's.
        layer_lr_decay: Factor of the learning rate from each layer to the layer below it.
        lr_scheduler_type: Type of the scheduler within the stage. If this and ``warmup_steps`` are None, the scheduler
            of the run applies. With ``"reduce_lr_on_plateau"``, the rates fall when evaluations stop improving.
        lr_scheduler_kwargs: Arguments of the scheduler, such as ``{num_cycles: 2}``, or ``{metric: loss, patience: 2,
            factor: 0.1}`` for ``"reduce_lr_on_plateau"``.
        warmup_steps: Number of warm-up steps within the stage; a share of its steps if below 1.
        restore_best: Whether to restore the stage's best weights before the next stage starts. The best are chosen by
            the metric of ``until`` if it is a single one, or by ``metric_for_best_model``.
        on_worse: Actions when a metric gets worse.
        baseline: Whether nothing trains, to score the model as it is. Only for a schedule of one stage.
    """

    name: str
    train: str | list[str] = "all"
    freeze: str | list[str] = "none"
    epochs: int | float | None = None
    steps: int | None = None
    until: Until | None = None
    learning_rate: int | float | None = None
    head_learning_rate: int | float | None = None
    layer_lr_decay: int | float | None = None
    lr_scheduler_type: str | None = None
    lr_scheduler_kwargs: JsonObject | None = None
    warmup_steps: int | float | None = None
    restore_best: bool = False
    on_worse: list[OnWorse] = field(default_factory=list)
    baseline: bool = False

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        check_fields(self, f"{where}: ")
        ends = [name for name in ("epochs", "steps", "until") if getattr(self, name) is not None]
        if len(ends) > 1:
            raise ValueError(
                f"{where}: {' and '.join(ends)} are given; expected one of them. A bound of `until` is its max_epochs "
                "or max_steps."
            )
        check_positive(where, epochs=self.epochs, steps=self.steps, layer_lr_decay=self.layer_lr_decay)
        for name in ("learning_rate", "head_learning_rate", "warmup_steps"):
            if (value := getattr(self, name)) is not None and not 0 <= value < math.inf:
                raise ValueError(f"{where}: {name} must be at least 0, found {value}.")
        if self.layer_lr_decay is not None and self.layer_lr_decay > 1:
            raise ValueError(f"{where}: layer_lr_decay must be at most 1, found {self.layer_lr_decay}.")
        if self.lr_scheduler_type is not None and self.lr_scheduler_type not in STAGE_SCHEDULERS:
            raise ValueError(
                f"{where}: {unknown_name_message('lr_scheduler_type', self.lr_scheduler_type, STAGE_SCHEDULERS)}"
            )
        if self.lr_scheduler_kwargs is not None:
            self._check_scheduler_kwargs(where, self.lr_scheduler_kwargs)

    def _check_scheduler_kwargs(self, where: str, kwargs: JsonObject) -> None:
        if self.lr_scheduler_type is None:
            raise ValueError(f"{where}: lr_scheduler_kwargs need an lr_scheduler_type.")
        allowed = list(_PLATEAU_DEFAULTS)
        if self.lr_scheduler_type != PLATEAU:
            function: Any = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(self.lr_scheduler_type)]
            allowed = [name for name in inspect.signature(function).parameters if name not in _NOT_KWARGS]
        for name in kwargs:
            if name not in allowed:
                raise ValueError(f"{where}: {unknown_name_message('key in lr_scheduler_kwargs', name, allowed)}")
        try:
            _ = self.rules
        except ValueError as error:
            message = str(error).replace("on_worse", "lr_scheduler_kwargs")
            raise ValueError(f"{where}: {message}") from error

    @property
    def rules(self) -> list[OnWorse]:
        """Actions on metrics: those of ``on_worse``, and that of ``reduce_lr_on_plateau``."""
        if self.lr_scheduler_type != PLATEAU:
            return self.on_worse
        values = {**_PLATEAU_DEFAULTS, **(self.lr_scheduler_kwargs or {})}
        # torch lowers the rate at the first evaluation after `patience` evaluations without an improvement.
        rule = OnWorse(
            metric=values["metric"],
            do="lower_lr",
            patience=values["patience"] + 1,
            groups="all",
            factor=values["factor"],
        )
        return [*self.on_worse, rule]

    @property
    def selectors(self) -> list[str]:
        """All selectors of groups, of the stage and of its actions."""
        fields = [self.train, self.freeze, *(rule.groups or [] for rule in self.on_worse)]
        return [selector for field in fields for selector in ([field] if isinstance(field, str) else field)]

    @property
    def converged(self) -> Converged | None:
        """Options by which the stage freezes layers that have stopped learning; None if it does not."""
        return None if self.until is None else self.until.converged

    def units(self, groups: LayerGroups) -> list[Unit]:
        """Return what the stage may freeze as it stops learning, from the bottom up."""
        return [] if self.converged is None else freezable_units(self.converged, self.trained(groups), groups)

    def may_freeze(self, groups: LayerGroups) -> list[str]:
        """Return the names of the groups that the stage may freeze."""
        return [name for unit in self.units(groups) for name in unit.groups]

    @property
    def sets_rates(self) -> bool:
        """Whether the stage sets its own learning rates."""
        own = (self.learning_rate, self.head_learning_rate, self.layer_lr_decay)
        slowed = any(rule.do == "lower_lr" for rule in self.rules)
        return any(value is not None for value in own) or self.has_own_schedule or slowed

    @property
    def has_own_schedule(self) -> bool:
        """Whether learning rates warm up and decay within the stage instead of across the run."""
        return self.lr_scheduler_type is not None or self.warmup_steps is not None

    def in_words(self) -> tuple[str, str, str]:
        """Return what trains, the end of the stage and its own learning rates."""
        trains = _listed(self.train) + (f" without {_listed(self.freeze)}" if self.freeze != "none" else "")
        rates = {"encoder": self.learning_rate, "heads": self.head_learning_rate, "decay": self.layer_lr_decay}
        own = [f"{name} {value:g}" for name, value in rates.items() if value is not None]
        return "nothing" if self.baseline else trains, self.end_in_words(), ", ".join(own) or "those of the run"

    def end_in_words(self) -> str:
        """Return the end of the stage, as a phrase."""
        if self.baseline:
            return "nothing trains"
        if self.until is not None:
            until = self.until
            several = f"{until.when} of " if len(until.metrics) > 1 else ""
            words = f"{several}{', '.join(until.metrics)} not better for {_count(until.patience, 'evaluation')}"
            if until.converged is not None:
                words = until.converged.in_words()
            if until.max_epochs is not None:
                return f"{words}, or {_count(until.max_epochs, 'epoch')}"
            return words if until.max_steps is None else f"{words}, or {_count(until.max_steps, 'step')}"
        if self.epochs is not None:
            return _count(self.epochs, "epoch")
        return "the run's end" if self.steps is None else _count(self.steps, "step")

    def max_steps(self, steps_per_epoch: int) -> int | None:
        """Return the maximum number of steps of the stage; None if it has no bound."""
        epochs, steps = self.epochs, self.steps
        if self.until is not None:
            epochs, steps = self.until.max_epochs, self.until.max_steps
        return steps if epochs is None else max(round(epochs * steps_per_epoch), 1)

    def trained(self, groups: LayerGroups) -> list[str]:
        """Return the names of the groups that train, from the bottom up.

        Raises:
            ValueError: If a selector is unknown, or nothing trains and the stage is not a baseline.
        """
        try:
            frozen = groups.select(self.freeze)
            trained = [name for name in groups.select(self.train) if name not in frozen]
        except ValueError as error:
            raise ValueError(f"stage {self.name!r}: {error}") from error
        if not trained and not self.baseline:
            raise ValueError(
                f"stage {self.name!r}: nothing trains. To score the model as it is, use the preset 'all', or a single "
                "stage with `baseline: true`."
            )
        if trained and self.baseline:
            raise ValueError(f"stage {self.name!r}: is declared as a baseline, but trains {', '.join(trained)}.")
        return trained


def check_positive(where: str, **values: float | None) -> None:
    """Raise if a value is given that is not above 0; ``where`` starts the message."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{where}: {name} must be above 0, found {value}.")


def _listed(selectors: str | list[str]) -> str:
    return selectors if isinstance(selectors, str) else ", ".join(selectors)


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"
