"""A training that diverges stops: no checkpoint and no model gets weights that are not finite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..freezing.snapshots import checkpoints
from ..models import TaskConfig
from .task_log import TaskLog

# Steps whose values are kept as separate tensors.
_STEPS_AT_ONCE = 64
GRADIENTS = "norm of the gradients"


class DivergenceError(ValueError):
    """A loss, the gradients or the weights of a training are not finite."""


@dataclass(frozen=True)
class DivergenceHooks:
    """What a `DivergenceCheck` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        tasks: Return the tasks of the model.
        output_folder: Return the folder of the training's checkpoints.
        is_pruned: Return whether a trial of a search ends with this training, and the search goes on with the next.
    """

    tasks: Callable[[], Sequence[TaskConfig]]
    output_folder: Callable[[], Path]
    is_pruned: Callable[[], bool]


class DivergenceCheck(TrainerCallback):
    """Stops a training at the first loss, gradient norm or weight that is not finite.

    The values of each step stay on the device. They are read when the Trainer logs, evaluates, saves or ends an epoch,
    so that no other step waits for the device. All processes read them together and stop together.

    Args:
        task_log: Losses since the last log; a loss that is not finite stays in their sums.
        hooks: Callables of the trainer.
    """

    def __init__(self, task_log: TaskLog, hooks: DivergenceHooks) -> None:
        self.task_log = task_log
        self.hooks = hooks
        # Norm of the gradients of the last step, if they were clipped.
        self.gradient_norm: torch.Tensor | None = None
        self._names: list[str] = []
        self._values: list[torch.Tensor] = []
        self._finite: list[torch.Tensor] = []
        self._checked_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Begin a training."""
        self.gradient_norm = None
        self._begin(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep the losses of the step, and check them before they are logged and before an evaluation."""
        values = dict(self.task_log.losses)
        # The gradient scaler skips a step whose gradients are not finite.
        if self.gradient_norm is not None and self.task_log.accelerator.scaler is None:
            values[GRADIENTS] = self.gradient_norm
        if list(values) != self._names:
            self._check_losses(state.global_step - 1)
            self._names = list(values)
        self._values.extend(values.values())
        if len(self._values) >= _STEPS_AT_ONCE * len(values):
            self._fold()
        if control.should_log or control.should_evaluate or control.should_training_stop:
            self._check_losses(state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Check the losses of the epoch."""
        self._check_losses(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the weights that the training ends with."""
        self.check(kwargs["model"], state.global_step)

    def check(self, model: nn.Module, step: int) -> None:
        """Check the losses since the last check, and the weights; on all processes.

        Args:
            model: The model.
            step: Optimizer steps so far.

        Raises:
            DivergenceError: If a value is not finite.
        """
        self._check_losses(step)
        accelerator = self.task_log.accelerator
        weights = [_local(weight.detach()) for weight in model.parameters()]
        finite = torch.stack([weight.isfinite().all().to(accelerator.device) for weight in weights]).all()
        if not bool(accelerator.gather(finite.long()[None]).all()):
            raise self._error(step, "the weights are not finite")

    def _check_losses(self, step: int) -> None:
        self._fold()
        if self._finite:
            finite, names = torch.cat(self._finite), self._names
            # Number of steps before the first value that is not finite.
            counts = self.task_log.accelerator.gather(finite.cumprod(0).sum(0)[None]).amin(0).tolist()
            if (first := min(counts)) < len(finite):
                failed = [name for name, count in zip(names, counts, strict=True) if count == first]
                # The gradients of a loss that is not finite are not finite either.
                failed = [name for name in failed if name != GRADIENTS] or failed
                texts = {f"{task.name}_loss": f"loss of task {task.name!r}" for task in self.hooks.tasks()}
                found = " and the ".join(texts.get(name, name) for name in failed)
                verb = "are" if len(failed) > 1 else "is"
                step = self._checked_step + first + 1
                raise self._error(step, f"the {found} {verb} not finite")
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._names, self._values, self._finite = [], [], []
        self._checked_step = step

    def _error(self, step: int, found: str) -> Exception:
        saved = checkpoints(self.hooks.output_folder())
        before = [number for number in saved if number < step]
        if before:
            advice = f"The checkpoint {saved[max(before)]} is from before: resume from it"
        else:
            advice = "There is no checkpoint from before: start again"
        message = (
            f"step {step}: {found} (NaN or infinite). The training has stopped; no such weights were saved. {advice} "
            "with a lower learning_rate or head_learning_rate, a longer warm-up or a smaller max_grad_norm."
        )
        if not self.hooks.is_pruned():
            return DivergenceError(message)
        import optuna

        return optuna.TrialPruned(message)

    def _fold(self) -> None:
        """Keep of the values only whether they are finite: (steps, names)."""
        if self._values:
            finite = torch.stack([value.float() for value in self._values]).isfinite()
            self._finite.append(finite.view(-1, len(self._names)).long())
            self._values = []


def _local(weight: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a weight that is divided between processes."""
    to_local = getattr(weight, "to_local", None)
    return weight if to_local is None else to_local()
