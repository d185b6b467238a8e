"""Freezing in stages with any Trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from ..models.layer_groups import LayerGroups, layer_groups
from ..runtime.run_length import optimizer_steps
from .plain_run import PlainFreezeRun
from .presets import FreezeSpec, build_schedule
from .run import FreezeRun
from .run_setup import RunSetup
from .schedule import FreezeSchedule


class FreezeCallback(TrainerCallback):
    """Freezes and unfreezes groups of a model's layers while a ``Trainer`` trains.

    It works with a plain ``transformers.Trainer`` and any model with one encoder, on one process and under DDP. The
    stage is computed from the trainer's recorded state, so a resumed run continues where it was. After training, the
    whole model is trainable again. Give the callback to the trainer's constructor: ``Trainer(callbacks=[…])``.

    Args:
        schedule: The schedule, or anything that `build_schedule` makes a schedule of: a preset's name, a file, groups
            that stay frozen, stages.

    Raises:
        ValueError: Before the first step, if this training would not do what the schedule says.
    """

    def __init__(self, schedule: FreezeSpec) -> None:
        self.spec = schedule
        self.groups: LayerGroups | None = None
        self.schedule: FreezeSchedule | None = None
        # The training that is running.
        self.run: FreezeRun | None = None
        # Main metric of each task, which the name of the task stands for. A plain Trainer has no tasks.
        self.metric_by_task: Mapping[str, str] = {}
        self._built_for: tuple[float, str | None] | None = None

    def build_schedule(self, groups: LayerGroups, num_epochs: float, metric: str | None) -> FreezeSchedule:
        """Return the schedule of a run. It is one object, built again only for a run of another length or metric.

        Args:
            groups: Layer groups of the model.
            num_epochs: Length of the run, of which presets take shares.
            metric: The run's ``metric_for_best_model``.

        Raises:
            ValueError: If the schedule is not valid for this model.
        """
        if self.schedule is None or self._built_for != (num_epochs, metric):
            schedule = build_schedule(self.spec, groups, num_epochs, metric)
            self.schedule = schedule.with_metrics(self.metric_by_task)
            self._built_for = (num_epochs, metric)
        return self.schedule

    def interrupt(self) -> None:
        """Unfreeze what the schedule has frozen, if a training was interrupted.

        What is frozen when another trainer is built counts as frozen by the caller.
        """
        if self.run is not None:
            self.run.release()
            self.run = None

    def remaining_stages(self) -> list[tuple[Sequence[str], float]] | None:
        """Return the groups that train and the number of epochs, stage by stage from now on; None outside of a run."""
        return None if self.run is None else self.run.remaining_stages()

    def run_folder(self, args: TrainingArguments) -> Path:
        """Return the output folder of a call of ``train``, in which its checkpoints are."""
        return Path(str(args.output_dir))

    def make_run(self, setup: RunSetup) -> FreezeRun:
        """Return the run that follows the schedule through one call of ``train``."""
        return PlainFreezeRun(setup)

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: object,
    ) -> None:
        """Find the layer groups while the model is not wrapped."""
        if model is not None:
            self.groups, self.schedule = layer_groups(model).hold_frozen(), None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the schedule, and freeze the groups that are frozen at this step."""
        self.interrupt()  # an earlier training of this trainer
        model = kwargs["model"]
        groups = (self.groups or layer_groups(model).hold_frozen()).bind(model)
        steps_per_epoch = count_steps_per_epoch(args, state, kwargs.get("train_dataloader"))
        schedule = self.build_schedule(groups, state.max_steps / steps_per_epoch, args.metric_for_best_model)
        setup = RunSetup(
            schedule=schedule,
            groups=groups.divide(schedule.name_patterns),
            steps_per_epoch=steps_per_epoch,
            args=args,
            state=state,
            model=model,
            optimizer=kwargs["optimizer"],
            lr_scheduler=kwargs["lr_scheduler"],
            folder=self.run_folder(args),
        )
        self.run = self.make_run(setup)
        self.run.begin(control)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Enter the next stage if it begins with this step."""
        if self.run is not None:
            self.run.begin_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Measure the memory while gradients and optimizer state exist."""
        if self.run is not None:
            self.run.measure_memory()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count the stage's time, and defer a checkpoint until the evaluation of its step."""
        if self.run is not None:
            self.run.end_step(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Let the Trainer write the checkpoint that was deferred."""
        if self.run is not None:
            self.run.end_epoch(control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep the weights if they are the stage's best, and stop at the end of the schedule."""
        if self.run is not None:
            self.run.see_evaluation(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Write the schedule to the checkpoint."""
        if self.run is not None:
            self.run.save_schedule(self.run.folder / f"checkpoint-{state.global_step}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Write the schedule and the results of the stages, and unfreeze what the schedule has frozen."""
        if self.run is not None:
            self.run.end()
            self.run = None


def count_steps_per_epoch(args: TrainingArguments, state: TrainerState, dataloader: DataLoader | None) -> int:
    """Return the optimizer steps per epoch as the Trainer counts them; the steps of the run if rows are streamed."""
    if dataloader is None or not has_length(dataloader):
        return state.max_steps
    return optimizer_steps(args, len(dataloader))
