"""Setup of a freeze run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, TrainerState, TrainingArguments

from ..models.layer_groups import LayerGroups
from .schedule import FreezeSchedule


@dataclass(frozen=True)
class RunSetup:
    """A schedule and the objects that one call of ``Trainer.train`` works with.

    Args:
        schedule: Schedule of the run.
        groups: Layer groups of the model, bound to its weights.
        steps_per_epoch: Optimizer steps per epoch.
        args: Arguments of the trainer.
        state: State of the trainer.
        model: The model, not wrapped.
        optimizer: The optimizer.
        lr_scheduler: The learning rate scheduler.
        folder: Output folder of the run.
    """

    schedule: FreezeSchedule
    groups: LayerGroups
    steps_per_epoch: int
    args: TrainingArguments
    state: TrainerState
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    lr_scheduler: LambdaLR
    folder: Path
