"""Freeze schedule of a trainer, for the model and the length of each training."""

from collections.abc import Callable, Sequence
from typing import Any

from ..freezing import FreezeSchedule, FreezeSpec, FreezeStage, MultiTaskFreezeCallback
from ..freezing.hooks import FreezeHooks
from ..freezing.plan import StagePlans, plan_stages
from ..freezing.rates import peak_rates
from ..models import TaskConfig
from ..models.layer_groups import LayerGroups
from ..models.type_aliases import JsonObject
from .arguments import MultiTaskTrainingArguments
from .metrics import watched_metric

ScheduleSpec = FreezeSpec | Callable[[Any], FreezeSpec]


class Scheduling:
    """Builds the schedule that a trainer was given.

    Args:
        spec: Anything that `build_schedule` makes a schedule of, or a function from a trial to that. None without a
            schedule: what is frozen in the model stays so.
        args: Arguments of the trainer.
        hooks: Callables of the trainer.
    """

    # Layer groups of the model that is followed.
    groups: LayerGroups

    def __init__(self, spec: ScheduleSpec | None, args: MultiTaskTrainingArguments, hooks: FreezeHooks) -> None:
        self.is_given = spec is not None
        self.args = args
        self.callback = MultiTaskFreezeCallback(hooks)
        self._spec: ScheduleSpec = "none" if spec is None else spec

    def follow(self, groups: LayerGroups, tasks: Sequence[TaskConfig], trial: Any = None) -> None:
        """Schedule the layer groups of a model from now on.

        Args:
            groups: Layer groups of the model.
            tasks: Tasks of the model.
            trial: Trial of a search that the model is trained in.
        """
        self.groups = groups
        spec = self._spec(trial) if callable(self._spec) else self._spec
        self.callback.reset(spec, groups, {task.name: watched_metric(task) for task in tasks})

    def divide(self, num_epochs: float) -> FreezeSchedule | None:
        """Divide the groups by the patterns that the schedule names weights with.

        Args:
            num_epochs: Length of the run, as far as it is known.

        Returns:
            The schedule; None if there is none.
        """
        if not self.is_given:
            return None
        schedule = self.schedule_of(num_epochs)
        self.groups = self.groups.divide(schedule.name_patterns)
        return schedule

    def schedule_of(self, num_epochs: float) -> FreezeSchedule:
        """Return the schedule of a run of a length."""
        return self.callback.build_schedule(self.groups, num_epochs, self.args.metric_for_best_model)

    def protected(self, tasks: Sequence[TaskConfig]) -> list[TaskConfig]:
        """Return the tasks that any stage protects: a stage begins after the batches of its first step are counted."""
        protect = {} if self.callback.schedule is None else self.callback.schedule.protect
        return [task for task in tasks if task.name in protect]

    def trains_nothing(self) -> bool:
        """Return whether every group is frozen, by the schedule or in the model."""
        schedule = self.callback.schedule
        is_baseline = schedule is not None and schedule.is_baseline
        return is_baseline or not any(group.trainable for group in self.groups)

    def peak_rates(self, stage: FreezeStage | None = None) -> dict[str, float]:
        """Return the peak learning rate of each layer group, of the run or of a stage."""
        args = self.args
        return peak_rates(self.groups, args.learning_rate, args.peak_head_learning_rate, stage, args.layer_lr_decay)

    def plan(
        self, steps_per_epoch: int, max_steps: int, optimizer_class: type, optimizer_kwargs: JsonObject
    ) -> StagePlans:
        """Return what each stage will train.

        Args:
            steps_per_epoch: Optimizer steps per epoch.
            max_steps: Optimizer steps of the run.
            optimizer_class: Class of the optimizer.
            optimizer_kwargs: Arguments of the class.

        Raises:
            ValueError: If the stages do not fit into the run.
        """
        return plan_stages(
            self.schedule_of(max_steps / steps_per_epoch),
            self.groups,
            steps_per_epoch,
            max_steps,
            self.args.learning_rate,
            self.args.peak_head_learning_rate,
            self.args.layer_lr_decay,
            optimizer_class,
            optimizer_kwargs,
        )
