"""Freezing in stages with a `MultiTaskTrainer`: learning rates by group, DDP per stage, protected heads."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import SchedulerType, TrainerControl, TrainingArguments

from ..models.layer_groups import HEAD, LayerGroups
from ..models.modeling_multitask import MultiTaskModel
from ..models.type_aliases import JsonObject
from .callback import FreezeCallback
from .distillation import Teacher, drift, encode_sample
from .hooks import FreezeHooks
from .presets import FreezeSpec
from .rates import StageRateFactor, set_rates
from .replay import Transition
from .run import FreezeRun
from .run_setup import RunSetup

logger = logging.getLogger(__name__)


class MultiTaskFreezeCallback(FreezeCallback):
    """The `FreezeCallback` of a `MultiTaskTrainer`.

    Args:
        hooks: Callables of the trainer.
    """

    run: "MultiTaskFreezeRun | None"

    def __init__(self, hooks: FreezeHooks) -> None:
        super().__init__("none")
        self.hooks = hooks

    def reset(self, schedule: FreezeSpec, groups: LayerGroups, metric_by_task: Mapping[str, str]) -> None:
        """Follow a schedule from now on.

        Args:
            schedule: See `FreezeCallback`.
            groups: Layer groups of the trainer's model.
            metric_by_task: Main metric of each task.
        """
        self.spec, self.groups, self.schedule = schedule, groups, None
        self.metric_by_task = metric_by_task

    def run_folder(self, args: TrainingArguments) -> Path:
        """Return the output folder of a call of ``train``; in a hyperparameter search, that of the trial."""
        return self.hooks.output_folder()

    def measure_drift(self, prefix: str) -> dict[str, float]:
        """Return the drift of the inputs of frozen heads by the name of its metric; empty without such heads."""
        drifts = {} if self.run is None else self.run.measure_drift()
        return {f"{prefix}_{name}": value for name, value in drifts.items()}

    def make_run(self, setup: RunSetup) -> "MultiTaskFreezeRun":
        """Return the run that follows the schedule through one call of ``train``."""
        return MultiTaskFreezeRun(setup, self.hooks)


class MultiTaskFreezeRun(FreezeRun):
    """The `FreezeRun` of a `MultiTaskTrainer`.

    Args:
        setup: See `FreezeRun`.
        hooks: Callables of the trainer.
    """

    model: MultiTaskModel

    def __init__(self, setup: RunSetup, hooks: FreezeHooks) -> None:
        super().__init__(setup)
        self.hooks = hooks
        self.teacher: Teacher | None = None
        # States of the validation sample when the current heads were frozen.
        self.states_before: dict[str, torch.Tensor] | None = None
        self._own_factor: tuple[tuple[int, int], StageRateFactor] | None = None

    def check(self) -> None:
        """Check the training too for an optimizer and a scheduler that learning rates by stage can work with."""
        super().check()
        if not self.schedule.sets_rates:
            return
        if not all("layer_group" in group for group in self.optimizer.param_groups):
            raise ValueError(
                "freeze schedule: learning rates by stage need the trainer's own optimizer, whose parameter groups "
                "follow the layer groups; leave `optimizers` out."
            )
        if not hasattr(self.lr_scheduler, "base_lrs"):
            found = SchedulerType(self.args.lr_scheduler_type).value
            raise ValueError(
                "freeze schedule: learning rates by stage need a schedule that is a function of the step; found "
                f"lr_scheduler_type={found!r}."
            )
        for stage in self.schedule.stages:
            if stage.has_own_schedule:
                StageRateFactor(stage, self.state.max_steps)

    def begin(self, control: TrainerControl) -> None:
        """Begin, and restore the teacher and the reference of the drift if a stage is resumed."""
        super().begin(control)
        if self.entered:
            self._watch_risks()

    def begin_step(self) -> None:
        """Enter the next stage if it begins with this step, and set the learning rates of the step."""
        super().begin_step()
        if self.schedule.sets_rates:
            factor = self._rate_factor()
            set_rates(self.optimizer, {name: peak * factor for name, peak in self._peak_rates(self.current).items()})

    def train_only(self, trained: Sequence[str]) -> None:
        """Let some groups train and freeze all others, in DDP too."""
        super().train_only(trained)
        self.hooks.rebuild_ddp()

    def enter(self, change: Transition) -> None:
        """Make a change, and watch the heads that it freezes over a training encoder."""
        if change.best_step is not None:
            # The evaluations that chose the best step scored the average, and snapshots are of the average too.
            self.hooks.settle_ema()
        super().enter(change)
        self._watch_risks()

    def caches_frozen_layers(self) -> bool:
        """Return whether the states of frozen layers are computed once and cached."""
        return self.hooks.caches_frozen_layers()

    def describe(self, change: Transition) -> JsonObject:
        """Return the peak learning rates of the groups that train."""
        peaks = self._peak_rates(change)
        return {"learning_rates": {name: peaks[name] for name in change.trained}}

    def measure_drift(self) -> dict[str, float]:
        """Return how far the inputs of frozen heads have moved since these were frozen; empty without such heads."""
        sample = None if self.states_before is None else self.hooks.validation_sample()
        if self.states_before is None or sample is None:
            return {}
        return drift(self.states_before, encode_sample(self.model, sample))

    def _peak_rates(self, change: Transition) -> dict[str, float]:
        peaks = self.hooks.peak_rates(self.schedule.stages[change.stage])
        return {name: peak * change.rate_factors.get(name, 1.0) for name, peak in peaks.items()}

    def _rate_factor(self) -> float:
        """Return the factor of the peak rates at this step, by the run's scheduler or the stage's own."""
        if self.stage.has_own_schedule:
            start = self.progress.stage_start
            length = self.stage.max_steps(self.steps_per_epoch) or self.state.max_steps - start
            if self._own_factor is None or self._own_factor[0] != (start, length):
                self._own_factor = (start, length), StageRateFactor(self.stage, length)
            return self._own_factor[1](self.state.global_step - start)
        scheduler = self.lr_scheduler
        for rate, base in zip(scheduler.get_last_lr(), scheduler.base_lrs, strict=True):
            if base:
                return float(rate) / float(base)
        # The run has no rate above 0. The rates of stages follow its scheduler all the same.
        return scheduler.lr_lambdas[0](scheduler.last_epoch)

    def _watch_risks(self) -> None:
        """Prepare the drift and the teachers of heads that are frozen over a training encoder."""
        self.teacher, self.states_before = None, None
        heads = self.schedule.at_risk(self.current.trained, self.groups)
        if not heads:
            return
        since = self._frozen_since(heads)
        is_start = since == self.state.global_step
        sample = self.hooks.validation_sample()
        if sample is not None:
            if is_start and self.args.should_save:
                self.snapshots.save("drift", since, encode_sample(self.model, sample))
            PartialState().wait_for_everyone()
            try:
                self.states_before = self.snapshots.load("drift", since)
            except FileNotFoundError as error:
                logger.warning("The drift of the inputs of %s is not measured: %s", ", ".join(heads), error)
        protections = self.schedule.protect.items()
        protect = {task: protection.distill for task, protection in protections if f"{HEAD}{task}" in heads}
        if protect:
            if is_start:
                self.save_weights("start")
            PartialState().wait_for_everyone()
            self.teacher = Teacher(self.model, protect, self.hooks.autocast)
            self.teacher.load(self.snapshots.load("start", since))

    def _frozen_since(self, heads: Sequence[str]) -> int:
        """Return the step of the stage since which exactly these heads are frozen over a training encoder."""
        since = self.state.global_step
        for change in reversed(self.entered):
            if change.stage != self.current.stage or self.schedule.at_risk(change.trained, self.groups) != heads:
                break
            since = change.step
        return since
