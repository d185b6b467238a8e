"""Callables that a trainer lends to its freeze run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from .schedule import FreezeStage


@dataclass(frozen=True)
class FreezeHooks:
    """What a `MultiTaskFreezeRun` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        output_folder: Return the folder of the training's checkpoints.
        peak_rates: Return the peak learning rate of each layer group in a stage.
        rebuild_ddp: Let DDP reduce exactly the weights that train now. Does nothing without DDP.
        validation_sample: Return a batch of validation rows, the same at each call; None if there are none.
        settle_ema: Make the moving average of the weights the model's weights. Does nothing without an average.
        autocast: Return the context of the mixed precision that the trainer runs the model in.
        caches_frozen_layers: Return whether the states that enter a layer of the encoder can be cached.
    """

    output_folder: Callable[[], Path]
    peak_rates: Callable[[FreezeStage], dict[str, float]]
    rebuild_ddp: Callable[[], None]
    validation_sample: Callable[[], dict[str, torch.Tensor] | None]
    settle_ema: Callable[[], None]
    autocast: Callable[[], AbstractContextManager]
    caches_frozen_layers: Callable[[], bool]
