"""Freeze schedules: the stages of a run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ..models.field_types import check_fields, describe_value
from ..models.layer_groups import ENCODER, HEAD, LayerGroups, layer_of, name_patterns
from ..models.messages import unknown_name_message
from ..models.table_repr import ReprTable, ShownAsTable
from ..models.type_aliases import JsonObject
from ..runtime.dataclass_yaml import build, changed_fields, check_keys, from_mapping, to_yaml
from ..runtime.plain_values import load_json, load_yaml
from .converged import Converged
from .stage import FreezeStage, OnWorse, Until, check_positive

SCHEDULE_NAME = "freeze_schedule.json"


@dataclass
class Protection:
    """Protection of a task whose head is frozen while the encoder below it trains.

    Args:
        distill: Weight in the loss of the distance to the task's own outputs at the start of the stage.
    """

    distill: int | float

    def __post_init__(self) -> None:
        check_fields(self, "protect: ")
        check_positive("protect", distill=self.distill)


@dataclass(repr=False)
class FreezeSchedule(ShownAsTable):
    """Stages of a run. Printed as a table of them.

    Args:
        stages: Stages, in order.
        protect: Protection by task, for stages in which its head is frozen and the encoder trains.
    """

    stages: list[FreezeStage]
    protect: dict[str, Protection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.stages:
            raise ValueError("stages is empty; expected at least one stage.")
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"stages must have different names; more than one is called {', '.join(twice)}.")
        *others, last = self.stages
        for stage in others:
            if stage.epochs is None and stage.steps is None and stage.until is None:
                raise ValueError(
                    f"stage {stage.name!r} has no end: give epochs, steps or until. Only the last stage may have none."
                )
        if last.restore_best:
            raise ValueError(
                f"stage {last.name!r}: restore_best restores weights before the next stage, and this is the last. "
                "Use load_best_model_at_end."
            )
        for stage in self.stages:
            if stage.baseline and others:
                raise ValueError(f"stage {stage.name!r}: a baseline must be the only stage.")

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the stages."""
        rows = [[stage.name, *stage.in_words()] for stage in self.stages]
        return [ReprTable("Freeze schedule", ("stage", "trains", "ends with", "learning rates"), rows)]

    @property
    def is_baseline(self) -> bool:
        """Whether nothing trains in the whole run."""
        return self.stages[0].baseline

    @property
    def sets_rates(self) -> bool:
        """Whether any stage sets its own learning rates."""
        return any(stage.sets_rates for stage in self.stages)

    @property
    def watched_metrics(self) -> list[str]:
        """Names of the metrics that end or change a stage."""
        names = [name for stage in self.stages if stage.until for name in stage.until.metrics]
        names += [name for stage in self.stages if stage.converged for name in stage.converged.metrics]
        return list(dict.fromkeys([*names, *(rule.metric for stage in self.stages for rule in stage.rules)]))

    def with_metrics(self, by_task: Mapping[str, str]) -> "FreezeSchedule":
        """Return the schedule with metrics in the place of the tasks that stages of `Converged` watch.

        Args:
            by_task: Main metric by name of the task.
        """
        stages = [_with_metrics(stage, by_task) for stage in self.stages]
        return self if stages == self.stages else replace(self, stages=stages)

    @property
    def needs_evaluation(self) -> bool:
        """Whether any stage depends on evaluations."""
        return bool(self.watched_metrics) or any(stage.restore_best for stage in self.stages)

    @property
    def watches_gap(self) -> bool:
        """Whether any stage compares training and validation loss."""
        return any(stage.until is not None and stage.until.watch_gap for stage in self.stages)

    def best_metric(self, stage: FreezeStage, default: str | None) -> str | None:
        """Return the metric that chooses the best weights of a stage; None if the stage does not restore them.

        Args:
            stage: The stage.
            default: The run's ``metric_for_best_model``.

        Raises:
            ValueError: If the stage restores its best weights and there is no metric to choose them by.
        """
        if not stage.restore_best:
            return None
        own = stage.until.metrics if stage.until is not None else []
        metric = own[0] if len(own) == 1 else default
        if metric is None:
            raise ValueError(
                f"stage {stage.name!r}: restore_best needs a metric: the single one of `until`, or "
                "metric_for_best_model."
            )
        return metric.removeprefix("eval_")

    @property
    def name_patterns(self) -> list[str]:
        """Patterns of the names of weights that stages select: the model's groups are divided by them."""
        return name_patterns(selector for stage in self.stages for selector in stage.selectors)

    def trained(self, groups: LayerGroups) -> set[str]:
        """Return the names of the groups that any stage trains."""
        return {name for stage in self.stages for name in stage.trained(groups)}

    def at_risk(self, trained: Iterable[str], groups: LayerGroups) -> list[str]:
        """Return the heads of which no weight trains while a part of the encoder below them trains."""
        layers = {layer_of(name) for name in trained}
        frozen = [head for head in groups.heads if head not in layers]
        return [head for head in frozen if layers.intersection(groups.below_head(head))]

    def check(self, groups: LayerGroups) -> None:
        """Check the schedule against a model.

        Args:
            groups: The model's groups, divided by the `name_patterns`.

        Raises:
            ValueError: If a selector or a task is unknown, nothing trains in a stage, or a protection has no effect.
        """
        risky: set[str] = set()
        for stage in self.stages:
            risky.update(self.at_risk(stage.trained(groups), groups))
            _check_converged(stage, groups)
            for rule in stage.rules:
                try:
                    rule.select_groups(groups)
                except ValueError as error:
                    raise ValueError(f"stage {stage.name!r}: {error}") from error
        heads = [head.removeprefix(HEAD) for head in groups.heads]
        for task in self.protect:
            if task not in heads:
                raise ValueError(f"protect: {unknown_name_message('task', task, heads)}")
            if f"{HEAD}{task}" not in risky:
                raise ValueError(
                    f"protect: there is no stage in which head.{task} is frozen while the encoder trains, so nothing "
                    "would be protected."
                )

    def check_length(self, steps_per_epoch: int, max_steps: int) -> None:
        """Check that the stages fit the length of the run.

        Args:
            steps_per_epoch: Optimizer steps per epoch.
            max_steps: Optimizer steps of the run.

        Raises:
            ValueError: If the stages are longer than the run, or end before it.
        """
        start = 0
        for stage in self.stages:
            if start >= max_steps:
                raise ValueError(
                    f"stage {stage.name!r} would start at step {start}, but the run ends at step {max_steps} "
                    f"({max_steps / steps_per_epoch:g} epochs). Shorten the stages before it or train longer."
                )
            if stage.until is None and (length := stage.max_steps(steps_per_epoch)) is not None:
                start += length
        last = self.stages[-1]
        by_time = all(stage.until is None for stage in self.stages) and last.max_steps(steps_per_epoch) is not None
        if by_time and start != max_steps:
            raise ValueError(
                f"the stages end at step {start}, but the run ends at step {max_steps} "
                f"({max_steps / steps_per_epoch:g} epochs). Leave the end of the last stage {last.name!r} open, or "
                "make both equal."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "FreezeSchedule":
        """Build a schedule from a mapping, as a YAML or JSON file contains it.

        Args:
            values: Mapping with ``stages``, a list of mappings, and optionally ``protect``.

        Returns:
            The schedule.

        Raises:
            ValueError: If a key is unknown or missing, or a value is not allowed.
        """
        check_keys(cls, values, "key of the schedule")
        stages = values.get("stages")
        if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
            raise ValueError(
                f"stages must be a list of mappings such as {{train: heads, epochs: 1}}, found "
                f"{describe_value(stages)}."
            )
        parsed = [_parse_stage({"name": f"stage {i}", **stage}) for i, stage in enumerate(stages, 1)]
        protect = values.get("protect") or {}
        if not isinstance(protect, Mapping):
            raise ValueError(
                f"protect must be a mapping such as {{intent: {{distill: 0.5}}}}, found {describe_value(protect)}."
            )
        return build(
            cls,
            {
                "stages": parsed,
                "protect": {task: from_mapping(Protection, held, f"protect.{task}") for task, held in protect.items()},
            },
        )

    def to_dict(self) -> JsonObject:
        """Return the schedule as a mapping for YAML or JSON, without fields at their defaults."""
        return changed_fields(self)

    @classmethod
    def from_file(cls, path: str | Path) -> "FreezeSchedule":
        """Read a schedule from a YAML or JSON file.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file does not contain a schedule. The message names the file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this freeze schedule file does not exist.")
        try:
            text = path.read_text(encoding="utf-8")
            # Not all JSON is YAML: tabs, and characters that JSON writes as two.
            values = load_json(text) if path.suffix == ".json" else load_yaml(text)
            if not isinstance(values, Mapping):
                raise ValueError(f"expected a mapping with `stages`, found {type(values).__name__}.")
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the schedule to a file: JSON if its name ends with ``.json``, else YAML."""
        path = Path(path)
        text = json.dumps(self.to_dict(), indent=2) + "\n" if path.suffix == ".json" else self.to_yaml()
        path.write_text(text, encoding="utf-8")

    def to_yaml(self) -> str:
        """Return the schedule as YAML."""
        return to_yaml(self.to_dict())


def _with_metrics(stage: FreezeStage, by_task: Mapping[str, str]) -> FreezeStage:
    if stage.until is None or stage.until.converged is None:
        return stage
    watch = [by_task.get(name, name) for name in stage.until.converged.metrics]
    if watch == stage.until.converged.metrics:
        return stage
    return replace(stage, until=replace(stage.until, converged=replace(stage.until.converged, watch=watch)))


def _check_converged(stage: FreezeStage, groups: LayerGroups) -> None:
    """Raise if a stage is to freeze layers that have stopped learning, and there are none that may freeze."""
    if stage.converged is None:
        return
    where = f"stage {stage.name!r}: until: converged"
    if not encoder_is_divided(groups):
        raise ValueError(
            f"{where}: this encoder shares its layers or has no list of layers, so they cannot be frozen one by one."
        )
    if not stage.units(groups):
        raise ValueError(
            f"{where}: nothing may freeze: keep={stage.converged.keep:g} of the layers that train keep training."
        )


def encoder_is_divided(groups: LayerGroups) -> bool:
    """Return whether the layers of a model's encoder can be frozen one by one."""
    return all(group.layer != ENCODER for group in groups)


def _parse_until(values: Mapping[str, object], where: str) -> Mapping[str, object]:
    if values.get("converged") is not None:
        converged = from_mapping(Converged, values["converged"], f"{where}: until: converged")
        return {**values, "converged": converged}
    is_known = set(values) <= {item.name for item in fields(Until)}
    if values.get("metric") is None and is_known:
        found = ", ".join(values) or "none"
        raise ValueError(f"{where}: until: the key 'metric' is missing, found {found}. Allowed instead: 'converged'.")
    return values


def _parse_stage(values: JsonObject) -> FreezeStage:
    where = f"stage {values['name']!r}"
    if (until := values.get("until")) is not None:
        if isinstance(until, Mapping):
            until = _parse_until(until, where)
        values["until"] = from_mapping(Until, until, f"{where}: until")
    rules = values.get("on_worse") or []
    rules = rules if isinstance(rules, list) else [rules]
    values["on_worse"] = [from_mapping(OnWorse, rule, f"{where}: on_worse") for rule in rules]
    return from_mapping(FreezeStage, values, where)
