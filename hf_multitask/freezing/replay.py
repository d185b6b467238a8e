"""Replay of a schedule: the stage of a run as a pure function of the record of its trainer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..models.layer_groups import LayerGroups
from ..models.messages import unknown_name_message
from ..runtime.training_history import Evaluation
from .converged import depth_below
from .convergence import Convergence, Measurement, Span
from .schedule import FreezeSchedule
from .stage import FreezeStage, OnWorse, Until, greater_is_better

# Share of the validation loss by which its gap to the training loss must grow to count as growing.
GAP_TOLERANCE = 0.05
# Reason of the first stage.
RUN_STARTS = "the run starts"


@dataclass(frozen=True)
class Transition:
    """Change of the groups that train, or of their learning rates.

    Args:
        step: Optimizer steps so far.
        stage: Index of the stage that starts or continues; the number of stages at the end of the schedule.
        reason: Reason, for logs.
        trained: Groups that train from now on, from the bottom up.
        starts_stage: Whether the stage starts here.
        rate_factors: Factors of learning rates by group, from ``on_worse``.
        best_step: Step of the best evaluation of the stage that ends, if that stage restores its best weights.
    """

    step: int
    stage: int
    reason: str
    trained: tuple[str, ...]
    starts_stage: bool = True
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    best_step: int | None = None

    @property
    def restore_step(self) -> int | None:
        """Step whose weights are restored first; None if no weights are restored."""
        return None if self.best_step == self.step else self.best_step


@dataclass(frozen=True)
class Progress:
    """Position of a run in its schedule.

    Args:
        transitions: All changes so far; the first is the start of the first stage.
        finished: Whether the schedule has ended, so that training stops.
        next_boundary: Last possible step of the stage; None if it has no bound.
        best_step: Step of the stage's best evaluation, if the stage restores its best weights.
    """

    transitions: tuple[Transition, ...]
    finished: bool
    next_boundary: int | None
    best_step: int | None

    @property
    def current(self) -> Transition:
        """Change that is in effect now."""
        return self.transitions[-1]

    @property
    def stage_start(self) -> int:
        """Step at which the stage started."""
        return next(change.step for change in reversed(self.transitions) if change.starts_stage)

    def before(self, step: int) -> Transition:
        """Return the change that was in effect before a step; the first change at the first step."""
        earlier = [change for change in self.transitions if change.step < step]
        return earlier[-1] if earlier else self.transitions[0]


def check_watched_metrics(schedule: FreezeSchedule, default: str | None, found: Sequence[str]) -> None:
    """Raise if a schedule depends on a metric that the evaluation does not compute.

    Args:
        schedule: The schedule.
        default: The run's ``metric_for_best_model``.
        found: Names of the metrics of the evaluation, without ``eval_``.

    Raises:
        ValueError: If a metric is missing. The message names the available metrics.
    """
    best = [schedule.best_metric(stage, default) for stage in schedule.stages]
    for name in [*schedule.watched_metrics, *best, "loss" if schedule.watches_gap else None]:
        if name is not None and name not in found:
            raise ValueError(f"freeze schedule: {unknown_name_message('metric', name, found)}")


def replay(
    schedule: FreezeSchedule,
    groups: LayerGroups,
    evaluations: Sequence[Evaluation],
    step: int,
    steps_per_epoch: int,
    best_metric: str | None = None,
    measurements: Sequence[Measurement] = (),
    max_steps: int | None = None,
) -> Progress:
    """Find the position of a run in its schedule.

    An evaluation belongs to the stage that trained up to its step. If a stage ends at the step of an evaluation, the
    evaluation comes first.

    Args:
        schedule: The schedule.
        groups: The model's groups.
        evaluations: The run's evaluations, in order.
        step: Optimizer steps so far.
        steps_per_epoch: Optimizer steps per epoch.
        best_metric: The run's ``metric_for_best_model``, for stages that restore their best weights.
        measurements: Measurements of the layers' distances, in order, for stages that freeze layers which have stopped
            learning. A measurement comes after the evaluation of its step.
        max_steps: Optimizer steps of the run, which such stages look ahead to.

    Returns:
        The position.

    Raises:
        ValueError: If an evaluation lacks a metric that the schedule depends on.
    """
    run = _Replay(schedule, groups, Span(steps_per_epoch, max_steps or step), best_metric)
    records: list[Evaluation | Measurement] = [*evaluations, *measurements]
    for record in sorted(records, key=lambda record: record.step):
        if record.step <= step:
            run.pass_time(record.step - 1)
            if isinstance(record, Measurement):
                run.measure(record)
            else:
                run.see(record)
    run.pass_time(step)
    boundary = run.boundary
    return Progress(tuple(run.transitions), run.finished, boundary, run.best.step if run.best else None)


class _Best:
    """Best value of a metric so far, and the number of evaluations since."""

    def __init__(self, metric: str, min_delta: float = 0.0) -> None:
        self.metric = metric
        self.min_delta = min_delta
        self.sign = 1.0 if greater_is_better(metric) else -1.0
        self.value: float | None = None
        self.step: int | None = None
        self.since = 0

    def see(self, evaluation: Evaluation) -> None:
        value = _metric(evaluation, self.metric)
        if self.value is None or self.is_improved(self.gain(value)):
            self.value, self.step, self.since = value, evaluation.step, 0
        else:
            self.since += 1

    def is_improved(self, gain: float) -> bool:
        """Return whether a gain is an improvement."""
        return gain > 0 and gain >= self.min_delta

    def gain(self, value: float) -> float:
        """Return by how much a value is better than the best; NaN is worse than any number."""
        if math.isnan(value):
            return -math.inf
        if self.value is None or math.isnan(self.value):
            return math.inf
        return self.sign * (value - self.value)


class _Rule:
    """State of an ``on_worse`` in its stage: the best value, and the number of evaluations that were worse."""

    def __init__(self, rule: OnWorse, reference: Evaluation | None) -> None:
        self.rule = rule
        self.best = _Best(rule.metric)
        self.worse = 0
        if reference is not None:
            self.best.see(reference)

    def triggers(self, evaluation: Evaluation) -> bool:
        has_best = self.best.value is not None
        is_worse = has_best and not self.best.gain(_metric(evaluation, self.rule.metric)) > -self.rule.by
        self.worse = self.worse + 1 if is_worse else 0
        self.best.see(evaluation)
        if self.worse < self.rule.patience:
            return False
        self.worse = 0
        return True


class _Replay:
    """Walks through the schedule, evaluation by evaluation."""

    def __init__(self, schedule: FreezeSchedule, groups: LayerGroups, span: Span, best_metric: str | None) -> None:
        self.schedule = schedule
        self.groups = groups
        self.span = span
        self.best_metric = best_metric
        self.trained_by_stage = [tuple(stage.trained(groups)) for stage in schedule.stages]
        self.transitions: list[Transition] = []
        self.finished = False
        self.seen: dict[int, Evaluation] = {}
        # State of the current stage.
        self.index = 0
        self.start = 0
        self.boundary: int | None = None
        self.refrozen = False
        self.watched: list[_Best] = []
        self.best: _Best | None = None
        self.reference: Evaluation | None = None
        self.rules: list[_Rule] = []
        self.convergence: Convergence | None = None
        # What has been frozen again by a rule stays frozen when layers train again.
        self.left_out: set[str] = set()
        self._enter(0, 0, RUN_STARTS)

    @property
    def stage(self) -> FreezeStage:
        return self.schedule.stages[self.index]

    @property
    def trained(self) -> tuple[str, ...]:
        return self.transitions[-1].trained

    def pass_time(self, step: int) -> None:
        """End the stages whose bound is at or before a step."""
        while not self.finished and self.boundary is not None and self.boundary <= step:
            self._next_stage(self.boundary, f"stage {self.stage.name!r} is at its bound")

    def see(self, evaluation: Evaluation) -> None:
        """Process an evaluation, which may end or change the stage."""
        if self.finished:
            return
        self.seen[evaluation.step] = evaluation
        if evaluation.step == self.start:
            self._set_reference(evaluation)
            return
        if self.best is not None:
            self.best.see(evaluation)
        for watched in self.watched:
            watched.see(evaluation)
        triggered = [rule.rule for rule in self.rules if rule.triggers(evaluation)]
        stop = next((rule for rule in triggered if rule.do == "stop"), None)
        if stop is not None:
            self._finish(evaluation.step, f"{stop.metric} got worse")
        elif not self._see_until(evaluation):
            self._apply_rules(evaluation.step, triggered)
            self._see_convergence(evaluation)

    def measure(self, measurement: Measurement) -> None:
        """Process a measurement, after which layers may freeze."""
        if self.finished or self.convergence is None or measurement.step in (self.start, self.boundary):
            return
        end = self.span.max_steps if self.boundary is None else min(self.boundary, self.span.max_steps)
        last = next(reversed(self.seen.values()), None)
        reason = self.convergence.measure(measurement, end, last)
        if reason is None:
            return
        is_last = self.index + 1 == len(self.schedule.stages)
        if not is_last and self.convergence.num_frozen == len(self.convergence.units):
            self._next_stage(measurement.step, reason)
        else:
            self._change(measurement.step, reason, self._left_to_train(self.convergence))

    def _see_convergence(self, evaluation: Evaluation) -> None:
        """Let layers train again if a metric has become worse since they were frozen."""
        if self.convergence is None or self.finished or evaluation.step == self.start:
            return
        reason = self.convergence.see(evaluation)
        if reason is not None:
            self._change(evaluation.step, reason, self._left_to_train(self.convergence))

    def _left_to_train(self, convergence: Convergence) -> tuple[str, ...]:
        left_out = self.left_out | convergence.frozen_groups
        return tuple(name for name in self.trained_by_stage[self.index] if name not in left_out)

    def _see_until(self, evaluation: Evaluation) -> bool:
        """End the stage, or freeze its groups again, if its metric has stopped improving; return whether it did."""
        until = self.stage.until
        if until is None or until.converged is not None or self.refrozen:
            return False
        stalled = [watched.since >= until.patience for watched in self.watched]
        if not (all(stalled) if until.when == "all" else any(stalled)):
            return False
        names = " and ".join(until.metrics)
        if until.watch_gap and self._gap_grows(evaluation):
            if self.index == 0 or self._has_improved():
                return False
            before = set(self.trained_by_stage[self.index - 1])
            self.refrozen = True
            self._change(
                evaluation.step,
                f"{names} is no better than before the stage and the gap to the training loss grows",
                tuple(name for name in self.trained if name in before),
            )
            return True
        self._next_stage(evaluation.step, f"{names} has stopped improving")
        return True

    def _gap_grows(self, evaluation: Evaluation) -> bool:
        """Return whether the gap has grown since the metric was best, beyond the usual swings of the loss."""
        before = next((self.seen[best.step].gap for best in self.watched if best.step is not None), None)
        if before is None or evaluation.gap is None:
            return False
        return evaluation.gap - before > GAP_TOLERANCE * evaluation.metrics["loss"]

    def _has_improved(self) -> bool:
        """Return whether a metric is better than before the stage."""
        if self.reference is None:
            return True
        return any(
            watched.value is not None
            and watched.is_improved(watched.sign * (watched.value - _metric(self.reference, watched.metric)))
            for watched in self.watched
        )

    def _apply_rules(self, step: int, rules: Sequence[OnWorse]) -> None:
        for rule in rules:
            named = rule.select_groups(self.groups)
            if rule.do == "lower_lr":
                factors = dict(self.transitions[-1].rate_factors)
                factors |= {name: factors.get(name, 1.0) * rule.factor for name in named}
                self._change(step, f"{rule.metric} got worse: lower learning rate", self.trained, factors)
                continue
            rest = tuple(name for name in self.trained if name not in named)
            if rest == self.trained:
                continue
            if not rest:
                self._next_stage(step, f"{rule.metric} got worse, and nothing else trains")
                return
            self.left_out.update(named)
            self._change(step, f"{rule.metric} got worse: frozen again", rest)

    def _change(
        self, step: int, reason: str, trained: tuple[str, ...], factors: Mapping[str, float] | None = None
    ) -> None:
        factors = self.transitions[-1].rate_factors if factors is None else factors
        self.transitions.append(Transition(step, self.index, reason, trained, False, factors))

    def _next_stage(self, step: int, reason: str) -> None:
        if self.index + 1 == len(self.schedule.stages):
            self._finish(step, reason)
        else:
            self._enter(self.index + 1, step, reason)

    def _finish(self, step: int, reason: str) -> None:
        self.finished = True
        self.transitions.append(Transition(step, len(self.schedule.stages), reason, self.trained))

    def _enter(self, index: int, step: int, reason: str) -> None:
        best = self.best.step if index and self.best is not None else None
        stage = self.schedule.stages[index]
        self.index, self.start = index, step
        length = stage.max_steps(self.span.steps_per_epoch)
        self.boundary = None if length is None else step + length
        self.refrozen = False
        until: Until | None = stage.until
        self.watched = [_Best(metric, until.min_delta) for metric in until.metrics] if until is not None else []
        best_metric = self.schedule.best_metric(stage, self.best_metric)
        self.best = _Best(best_metric) if best_metric is not None else None
        # Evaluation of the weights that the stage starts from.
        self._set_reference(self.seen.get(step if best is None else best))
        self.left_out = set()
        self.convergence = self._begin_convergence(stage, self.trained_by_stage[index])
        self.transitions.append(Transition(step, index, reason, self.trained_by_stage[index], best_step=best))

    def _begin_convergence(self, stage: FreezeStage, trained: Sequence[str]) -> Convergence | None:
        if stage.converged is None:
            return None
        return Convergence(stage.converged, stage.units(self.groups), depth_below(trained, self.groups), self.span)

    def _set_reference(self, reference: Evaluation | None) -> None:
        self.reference = reference
        self.rules = [_Rule(rule, reference) for rule in self.stage.rules]


def _metric(evaluation: Evaluation, name: str) -> float:
    if name not in evaluation.metrics:
        raise ValueError(f"freeze schedule: {unknown_name_message('metric', name, evaluation.metrics)}")
    return evaluation.metrics[name]
