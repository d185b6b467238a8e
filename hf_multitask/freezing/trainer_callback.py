"""What `MultiTaskTrainer` adds to freezing in stages: rates by group, a DDP for each stage, heads that are held."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from ..models.layer_groups import HEAD
from .callback import FreezeCallback
from .progress import Transition
from .protection import Teacher, drift, encode_sample
from .rates import StageRateFactor, peak_rates, set_rates

# Rows of the validation set on which the drift of a frozen head's inputs is measured.
DRIFT_ROWS = 64


class MultiTaskFreezeCallback(FreezeCallback):
    """The `FreezeCallback` of a `MultiTaskTrainer`.

    Args:
        schedule: See `FreezeCallback`.
        trainer: The trainer.
    """

    def __init__(self, schedule: Any, trainer: Trainer) -> None:
        super().__init__(schedule)
        self.trainer = trainer
        self.teacher: Teacher | None = None
        self.states_before: dict[str, torch.Tensor] | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin as `FreezeCallback` does, and bring back what a stage that goes on had at its start."""
        super().on_train_begin(args, state, control, model, optimizer, train_dataloader, **kwargs)
        self.teacher, self.states_before = None, None
        if self.entered:
            self._watch_risks()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Enter the next stage where it begins with this step, and set the learning rates of the step."""
        super().on_step_begin(args, state, control, **kwargs)
        if self.schedule.sets_rates:
            factor = self._rate_factor(state)
            set_rates(self.optimizer, {name: peak * factor for name, peak in self._peak_rates(self.current).items()})

    def measure_drift(self) -> dict[str, float]:
        """Return how far the inputs of a frozen head have moved since the stage's start, where there is such a head."""
        if self.states_before is None:
            return {}
        return drift(self.states_before, encode_sample(self.model, self._sample()))

    def _check(self) -> None:
        self._check_common()
        if self.schedule.sets_rates and not hasattr(self.trainer.lr_scheduler, "base_lrs"):
            raise ValueError(
                f"freeze schedule: its learning rates need a schedule that is a function of the step; found "
                f"lr_scheduler_type={str(self.args.lr_scheduler_type)!r}."
            )

    def _train_only(self, trained: Sequence[str]) -> None:
        super()._train_only(trained)
        ddp = getattr(self.trainer.model_wrapped, "_orig_mod", self.trainer.model_wrapped)
        if isinstance(ddp, DistributedDataParallel):
            register_again(ddp, self.trainer.accelerator.ddp_handler)

    def _enter(self, change: Transition) -> None:
        super()._enter(change)
        self._watch_risks()

    def _describe(self, change: Transition) -> dict[str, Any]:
        peaks = self._peak_rates(change)
        return {"learning_rates": {name: peaks[name] for name in change.trained}}

    def _peak_rates(self, change: Transition) -> dict[str, float]:
        stage = self.schedule.stages[change.stage]
        peaks = peak_rates(self.groups, self.args.learning_rate, self.args.peak_head_learning_rate, stage)
        return {name: peak * change.rate_factors.get(name, 1.0) for name, peak in peaks.items()}

    def _rate_factor(self, state: TrainerState) -> float:
        """Return the factor of the peak rates at this step: of the run's schedule, or the stage's own."""
        stage = self.schedule.stages[self.current.stage]
        start = self.progress.stage_start
        if stage.has_own_schedule:
            length = stage.max_steps(self.steps_per_epoch) or state.max_steps - start
            return StageRateFactor(stage, length)(state.global_step - start)
        scheduler = self.trainer.lr_scheduler
        known = [rate / base for rate, base in zip(scheduler.get_last_lr(), scheduler.base_lrs, strict=True) if base]
        return known[0] if known else 0.0

    def _watch_risks(self) -> None:
        """Keep what a head that is frozen over a training encoder is measured and held by."""
        heads = self.schedule.at_risk(self.current.trained, self.groups)
        self.teacher, self.states_before = None, None
        if not heads:
            return
        since = self._frozen_since(heads)
        is_start = since == self.state.global_step
        sample = self._sample()
        if sample is not None:
            if is_start and self.args.should_save:
                self.snapshots.save("drift", since, encode_sample(self.model, sample))
            self._wait()
            self.states_before = self.snapshots.load("drift", since)
        held = {
            task: protection.distill for task, protection in self.schedule.protect.items() if f"{HEAD}{task}" in heads
        }
        if held:
            if is_start and self.args.should_save:
                self._save_weights("start", self.schedule.stages[self.current.stage].trained(self.groups))
            self._wait()
            self.teacher = Teacher(self.model, held)
            self.teacher.load(self.snapshots.load("start", since))

    def _frozen_since(self, heads: Sequence[str]) -> int:
        """Return the step of the stage from which on just these heads are frozen over a training encoder."""
        since = self.state.global_step
        for change in reversed(self.entered):
            if change.stage != self.current.stage or self.schedule.at_risk(change.trained, self.groups) != heads:
                break
            since = change.step
        return since

    def _wait(self) -> None:
        self.trainer.accelerator.wait_for_everyone()

    def _sample(self) -> Mapping[str, torch.Tensor] | None:
        dataset = self.trainer.eval_dataset
        if isinstance(dataset, Mapping):
            dataset = next(iter(dataset.values()))
        if dataset is None or not hasattr(dataset, "__len__"):
            return None
        every = max(len(dataset) // DRIFT_ROWS, 1)
        rows = [dataset[i] for i in range(0, len(dataset), every)][:DRIFT_ROWS]
        return self.trainer._prepare_inputs(self.trainer.data_collator(rows))


def register_again(ddp: DistributedDataParallel, handler: Any) -> None:
    """Let DDP reduce exactly the weights that train now.

    Made anew in place, it keeps its identity for all who hold it: the training loop, accelerate, the trainer.

    Args:
        ddp: The wrapped model.
        handler: Accelerate's ``DistributedDataParallelKwargs``.
    """
    ddp.__init__(  # type: ignore[misc]
        ddp.module, device_ids=ddp.device_ids, output_device=ddp.output_device, init_sync=False, **handler.to_kwargs()
    )
    handler.register_comm_hook(ddp)
