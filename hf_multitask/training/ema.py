"""Exponential moving average (EMA) of the weights that train, which is evaluated and saved in their place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# The model of a checkpoint is the average. This file has the weights themselves, with which training continues.
PLAIN_WEIGHTS_NAME = "plain_weights.safetensors"


class EMACallback(TrainerCallback):
    """Keeps a moving average of the weights of a model during training.

    The average of a weight starts from the weight itself before the first step that trains it, and ends when the
    weight is frozen. A frozen weight counts as it is. A run that is short for its decay is averaged over about a third
    of its steps; see `decay_at`.

    Args:
        model: The model, not wrapped.
        decay: Share of the average that stays at each step, in (0, 1).

    Raises:
        ValueError: If the type of the weights would lose small changes.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        for name, weight in model.named_parameters():
            if weight.dtype != torch.float32:
                found = str(weight.dtype).removeprefix("torch.")
                raise ValueError(
                    f"ema_decay: expected weights in float32, found {name} in {found}: an average in it would not "
                    "move. Load the model in float32, and compute in bfloat16 with bf16=True."
                )
        self.weights = dict(model.named_parameters())
        self.averages: dict[str, torch.Tensor] = {}
        self.decay = decay
        self._is_swapped_in = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start the averages of weights that train from now on, and end those of frozen weights."""
        trained = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        if trained.keys() != self.averages.keys():
            self.averages = {
                name: self.averages[name] if name in self.averages else weight.detach().clone()
                for name, weight in trained.items()
            }

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Update the averages after an optimizer step."""
        weights = [self.weights[name] for name in self.averages]
        # The step counts when this event is over.
        update = get_ema_multi_avg_fn(self.decay_at(state.global_step + 1))
        update(list(self.averages.values()), weights, None)

    def decay_at(self, step: int) -> float:
        """Return the share of the average that stays at a step.

        With the decay alone, the average of a short run would be mostly the weights that it has started from. Until
        the decay is reached, this is polynomial-decay averaging with η = 2 (Shamir and Zhang 2013, section 4).

        Args:
            step: Step of the run, from 1.
        """
        return min(self.decay, 1 - 3 / (step + 2))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Make the averages the weights of the model."""
        self.copy_to_model()

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Make the averages the weights of the model, and reset them."""
        for name, average in self.averages.items():
            self.weights[name].copy_(average)
        self.reset()

    def reset(self) -> None:
        """Drop the averages. New ones start from the weights at the next step."""
        self.averages = {}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Use the averages as the weights of the model in this context."""
        if self._is_swapped_in:
            yield
            return
        self._is_swapped_in = True
        self._swap()
        try:
            yield
        finally:
            self._swap()
            self._is_swapped_in = False

    def save(self, checkpoint: str | Path) -> None:
        """Write the weights themselves to a checkpoint, whose model is their average.

        Args:
            checkpoint: Folder of the checkpoint.
        """
        weights = {name: self.weights[name].detach().cpu() for name in self.averages}
        save_file(weights, Path(checkpoint, PLAIN_WEIGHTS_NAME))

    @torch.no_grad()
    def load(self, checkpoint: str | Path) -> None:
        """Take the current weights, which a checkpoint's model has, as the averages, and read the weights themselves.

        Args:
            checkpoint: Folder of the checkpoint.

        Raises:
            ValueError: If a run without an average has written it.
        """
        path = Path(checkpoint, PLAIN_WEIGHTS_NAME)
        if not path.is_file():
            raise ValueError(f"ema_decay: {path} is missing; resume without ema_decay, as the run was started.")
        self.reset()
        for name, weight in load_file(path).items():
            self.averages[name] = self.weights[name].detach().clone()
            self.weights[name].copy_(weight)

    @torch.no_grad()
    def _swap(self) -> None:
        """Swap weights and averages in place, because the optimizer and DDP refer to the weights themselves."""
        for name, average in self.averages.items():
            weight = self.weights[name]
            before = weight.detach().clone()
            weight.copy_(average)
            average.copy_(before)


def build_ema(model: nn.Module, decay: float | None, distributed_type: DistributedType) -> EMACallback | None:
    """Return the callback for a decay, None without one.

    Args:
        model: The model, not wrapped.
        decay: The trainer's ``ema_decay``.
        distributed_type: Distributed type of accelerate.

    Raises:
        ValueError: If the weights are divided between processes, or their type would lose small changes.
    """
    if decay is None:
        return None
    if distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"ema_decay needs whole weights and does not work under {distributed_type.value}; leave it out."
        )
    return EMACallback(model, decay)


def replace_callback(
    callbacks: list[TrainerCallback], old: TrainerCallback | None, new: TrainerCallback | None
) -> None:
    """Put a callback into the place of another, in place.

    Args:
        callbacks: Callbacks of a trainer.
        old: Callback to remove. If None, the new one is added at the end.
        new: Callback to put there, if any.
    """
    position = len(callbacks) if old is None else callbacks.index(old)
    callbacks[position : position + (old is not None)] = [] if new is None else [new]


def refuse_averaged(checkpoint: str | Path) -> None:
    """Raise if the model of a checkpoint is an average, from which training cannot continue.

    Args:
        checkpoint: Folder of the checkpoint.

    Raises:
        ValueError: If its model is an average.
    """
    if Path(checkpoint, PLAIN_WEIGHTS_NAME).is_file():
        raise ValueError(f"{checkpoint}: its model is an average of weights; resume with the ema_decay of its run.")
