"""Freezing in stages with any Trainer."""

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from ..models.layer_groups import LayerGroups, layer_groups
from ..runtime.run_length import optimizer_steps
from .plain_run import PlainFreezeRun
from .presets import FreezeSpec, build_schedule
from .run import FreezeRun, RunSetup
from .schedule import FreezeSchedule


class FreezeCallback(TrainerCallback):
    """Freezes and unfreezes groups of a model's layers while a ``Trainer`` trains.

    It works with a plain ``transformers.Trainer`` and any model with one encoder, on one process and under DDP. The
    stage is computed from the trainer's recorded state, so a resumed run goes on where it was. At the end of the
    training the model trains as a whole again. Give it to the trainer's constructor: ``Trainer(callbacks=[…])``.

    Args:
        schedule: The schedule, or what `build_schedule` makes one of: a preset's name, a file, groups that are frozen
            throughout, stages.

    Raises:
        ValueError: Before the first step, if the schedule cannot hold in this training.
    """

    def __init__(self, schedule: FreezeSpec) -> None:
        self.spec = schedule
        self.groups: LayerGroups | None = None
        self.schedule: FreezeSchedule | None = None
        self.run: FreezeRun | None = None
        self._built_for: tuple[float, str | None] | None = None

    def build_schedule(self, groups: LayerGroups, num_epochs: float, metric: str | None) -> FreezeSchedule:
        """Return the schedule of a run: one object, built again only for a run of another length or metric.

        Args:
            groups: The model's groups.
            num_epochs: Length of the run, of which presets take shares.
            metric: The run's ``metric_for_best_model``.

        Raises:
            ValueError: If the schedule is not valid for this model.
        """
        if self.schedule is None or self._built_for != (num_epochs, metric):
            self.schedule = build_schedule(self.spec, groups, num_epochs, metric)
            self._built_for = (num_epochs, metric)
        return self.schedule

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
        """Find the groups while the model is not wrapped."""
        if model is not None:
            self.groups, self.schedule = layer_groups(model), None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Check that the schedule can hold, and freeze what is frozen at this step."""
        if self.run is not None:
            self.run.release()  # an earlier training was broken off
        model = kwargs["model"]
        groups = (self.groups or layer_groups(model)).bind(model)
        steps_per_epoch = count_steps_per_epoch(args, state, kwargs.get("train_dataloader"))
        setup = RunSetup(
            schedule=self.build_schedule(groups, state.max_steps / steps_per_epoch, args.metric_for_best_model),
            groups=groups,
            steps_per_epoch=steps_per_epoch,
            args=args,
            state=state,
            model=model,
            optimizer=kwargs["optimizer"],
            lr_scheduler=kwargs["lr_scheduler"],
        )
        self.run = self.make_run(setup)
        self.run.begin(control)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Enter the next stage where it begins with this step."""
        if self.run is not None:
            self.run.begin_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Measure the memory while gradients and optimizer state are there."""
        if self.run is not None:
            self.run.measure_memory()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Count the stage's time, and put a checkpoint off until the evaluation of its step."""
        if self.run is not None:
            self.run.end_step(control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Let the checkpoint be written that was put off."""
        if self.run is not None:
            self.run.end_epoch(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Keep the stage's best weights, and stop where the schedule ends."""
        if self.run is not None:
            self.run.see_evaluation(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the schedule into the checkpoint."""
        if self.run is not None:
            self.run.save_schedule(Path(args.output_dir, f"checkpoint-{state.global_step}"))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write schedule and stage results, and let the model train as it did before."""
        if self.run is not None:
            self.run.end()
            self.run = None


def count_steps_per_epoch(args: TrainingArguments, state: TrainerState, dataloader: DataLoader | None) -> int:
    """Return the optimizer steps of an epoch, as the Trainer counts them; of a stream, those of the run."""
    if dataloader is None or not has_length(dataloader):
        return state.max_steps
    return optimizer_steps(args, len(dataloader))
