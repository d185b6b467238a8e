"""An exponential moving average of the weights that train: what is evaluated and saved in their place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# In a checkpoint the model is the average. The weights that training goes on with lie beside it.
PLAIN_WEIGHTS_NAME = "plain_weights.safetensors"


class EMACallback(TrainerCallback):
    """Follows the weights of a model through its training.

    The average of a weight begins with the weight itself in front of the first step that trains it, and ends where it
    is frozen: what does not move counts as it is.

    Args:
        model: The model, not wrapped.
        decay: Share of the average that stays at each step, in (0, 1).

    Raises:
        ValueError: If the weights are in a type in which small changes would be lost.
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
        self.update = get_ema_multi_avg_fn(decay)
        self.averages: dict[str, torch.Tensor] = {}
        self.in_use = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the average of what trains from now on, and end that of what is frozen."""
        trained = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        if trained.keys() != self.averages.keys():
            self.averages = {
                name: self.averages[name] if name in self.averages else weight.detach().clone()
                for name, weight in trained.items()
            }

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the average follow a step."""
        weights = [self.weights[name] for name in self.averages]
        self.update(list(self.averages.values()), weights, None)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the average as the model's weights."""
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Take the average as the model's weights for good."""
        for name, average in self.averages.items():
            self.weights[name].copy_(average)
        self.forget()

    def forget(self) -> None:
        """Keep the weights as they are; an average begins anew with the next step."""
        self.averages = {}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model's weights be their average for a while."""
        if self.in_use:
            yield
            return
        self.in_use = True
        self._exchange()
        try:
            yield
        finally:
            self._exchange()
            self.in_use = False

    def save(self, checkpoint: str | Path) -> None:
        """Write the weights that training goes on with beside a checkpoint's model, which is their average.

        Args:
            checkpoint: Folder of the checkpoint.
        """
        weights = {name: self.weights[name].detach().cpu() for name in self.averages}
        save_file(weights, Path(checkpoint, PLAIN_WEIGHTS_NAME))

    @torch.no_grad()
    def load(self, checkpoint: str | Path) -> None:
        """Take the weights that a checkpoint's model has as the average, and read those that training goes on with.

        Args:
            checkpoint: Folder of the checkpoint.

        Raises:
            ValueError: If it was written by a run without an average.
        """
        path = Path(checkpoint, PLAIN_WEIGHTS_NAME)
        if not path.is_file():
            raise ValueError(f"ema_decay: {path} is missing; resume without ema_decay, as the run was started.")
        self.forget()
        for name, weight in load_file(path).items():
            self.averages[name] = self.weights[name].detach().clone()
            self.weights[name].copy_(weight)

    @torch.no_grad()
    def _exchange(self) -> None:
        """Exchange weights and averages, in place: the optimizer and DDP hold the weights themselves."""
        for name, average in self.averages.items():
            weight = self.weights[name]
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)


def refuse_averaged(checkpoint: str | Path) -> None:
    """Refuse to go on from an average as if it were the weights.

    Args:
        checkpoint: Folder of a checkpoint.

    Raises:
        ValueError: If its model is an average.
    """
    if Path(checkpoint, PLAIN_WEIGHTS_NAME).is_file():
        raise ValueError(f"{checkpoint}: its model is an average of weights; resume with the ema_decay of its run.")
