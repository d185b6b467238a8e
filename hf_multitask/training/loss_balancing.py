"""Balanced losses of a training: the method that the arguments name, its checkpoints and its log."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.tasks import TaskConfig
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import read_json, write_text
from .balancing_methods import NONE, BalancingMethod
from .task_gradients import ALL, TaskGradients

# In a checkpoint.
STATE_NAME = "loss_balancing.json"
WEIGHT_PREFIX = "loss_weight_"


@dataclass(frozen=True)
class BalancingHooks:
    """What a `LossBalancing` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        accelerator: Return the accelerator.
        tasks: Return the tasks of the model.
        step: Return the optimizer steps so far.
        gradients: Gradients of the trainer's tasks, for methods that need their norms.
    """

    accelerator: Callable[[], Accelerator]
    tasks: Callable[[], Sequence[TaskConfig]]
    step: Callable[[], int]
    gradients: TaskGradients


class LossBalancing(TrainerCallback):
    """Weighs the losses of the tasks, in addition to their ``loss_weight``.

    The weights are constant within an optimizer step and follow from losses of all processes, so that they are the
    same on all of them.

    Args:
        method: The method.
        hooks: Callables of the trainer.
        seed: Seed of the training.
        counts_are_global: Whether losses are divided by the items of all processes.
    """

    def __init__(self, method: BalancingMethod, hooks: BalancingHooks, seed: int, counts_are_global: bool) -> None:
        self.method = method
        self.hooks = hooks
        self.seed = seed
        self.counts_are_global = counts_are_global
        self.begin_training()

    def begin_training(self) -> None:
        """Begin with equal weights."""
        self.tasks = list(self.hooks.tasks())
        device = self.hooks.accelerator().device
        self._fixed = torch.tensor([task.loss_weight for task in self.tasks], device=device)
        self.method.begin(self.tasks, device, self.seed)
        self._begin_step()

    def _begin_step(self) -> None:
        self._weights = self.method.weights(self.hooks.step())
        self._losses = torch.zeros_like(self._weights)
        self._items = torch.zeros_like(self._weights)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Set the weights of the step."""
        self._begin_step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Let the method learn from the losses of the step, on all processes."""
        losses, present, step = self._losses, self._items > 0, state.global_step
        if args.world_size > 1:
            values = torch.stack([losses, present.to(losses.dtype)])
            losses, counts = self.hooks.accelerator().reduce(values, reduction="sum")
            losses = losses if self.counts_are_global else losses / counts.clamp(min=1)
            present = counts > 0
        self.method.update(step, losses.nan_to_num(), present & losses.isfinite())
        if self.method.needs_norms(step):
            found = self.hooks.gradients.compare(step)
            if found is not None:
                self.method.update_norms(found.norms[ALL])

    def weigh(self, losses: Mapping[str, torch.Tensor], num_items: Mapping[str, torch.Tensor] | None) -> torch.Tensor:
        """Return the loss of a batch, and keep the losses of its tasks for the end of the step.

        Args:
            losses: Mean loss of each task, divided by the items of the step.
            num_items: Items of the step by task.
        """
        by_task = torch.stack([losses[task.name] for task in self.tasks])
        self._losses = self._losses + by_task.detach()
        if num_items is not None:
            self._items = torch.stack([num_items[task.name] for task in self.tasks]).to(self._items)
        return (self._fixed * self._weights * by_task).sum()

    def weights(self) -> dict[str, float]:
        """Return the present weight of each task, without its ``loss_weight``."""
        return dict(zip([task.name for task in self.tasks], self._weights.tolist(), strict=True))

    def entries(self) -> dict[str, float]:
        """Return the entries of the log: the weights of the last step."""
        return {f"{WEIGHT_PREFIX}{name}": weight for name, weight in self.weights().items()}

    def save(self, checkpoint: str) -> None:
        """Write the state to a checkpoint; on one process."""
        names = [task.name for task in self.tasks]
        values = {"method": self.method.name, "tasks": names, "state": self.method.state_dict()}
        write_text(Path(checkpoint, STATE_NAME), json.dumps(values))

    def load(self, checkpoint: str) -> None:
        """Continue with the state of a checkpoint.

        Raises:
            ValueError: If its run had another method.
        """
        check_resumed(checkpoint, self.method.name)
        state: JsonObject = read_json(Path(checkpoint, STATE_NAME)) or {}
        self.method.load_state_dict(state["state"])


def check_resumed(checkpoint: str, name: str) -> None:
    """Raise if a checkpoint belongs to a run that balanced its losses in another way.

    Args:
        checkpoint: Folder of the checkpoint.
        name: Name of the method now; `NONE` without one.

    Raises:
        ValueError: If so. The message names both methods.
    """
    state = read_json(Path(checkpoint, STATE_NAME))
    found = NONE if state is None else state["method"]
    if found != name:
        raise ValueError(
            f"loss_balancing: {checkpoint} was written with {found!r}, found {name!r}; resume with loss_balancing: "
            f"{found}, or start again."
        )
