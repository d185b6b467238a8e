"""The compute at hand, and what a schedule costs on it."""

import os
from dataclasses import dataclass

import psutil
import torch

from ..freezing import FreezeSchedule, FreezeStage
from ..models.layer_groups import EMBEDDINGS, LayerGroups
from ..runtime.byte_sizes import format_bytes
from .data_facts import DataFacts
from .encoder_catalogue import EncoderSize

# A layer that trains costs its forward pass, about twice as much backward, and its share of the optimizer's step.
PASSES_OF_TRAINING = 3.5
# Weights, gradients and two moments of AdamW, in float32. What a batch takes comes on top.
BYTES_PER_TRAINED_WEIGHT = 16


@dataclass(frozen=True)
class Machine:
    """What there is to compute on.

    Args:
        device: Type of the device: ``"cpu"``, ``"cuda"``, ….
        device_name: What it calls itself.
        cores: Cores of the processor that this process may use.
        memory_bytes: Memory that is free: of the accelerator, or of the machine without one.
    """

    device: str
    device_name: str
    cores: int
    memory_bytes: int

    @property
    def has_accelerator(self) -> bool:
        """Whether it computes on more than a processor."""
        return self.device != "cpu"

    def __str__(self) -> str:
        gibibytes = f"{format_bytes(self.memory_bytes, 'GiB')} free"
        if self.has_accelerator:
            return f"{self.device_name}, {gibibytes}"
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'}, no accelerator, {gibibytes}"


def look_at_machine(device: torch.device) -> Machine:
    """Return what there is to compute on.

    Args:
        device: The device that a run would use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Machine(device.type, torch.cuda.get_device_name(device), cores, free)
    return Machine(device.type, device.type, cores, psutil.virtual_memory().available)


def training_bytes(size: EncoderSize) -> int:
    """Return the memory of an encoder that trains as a whole, without that of a batch."""
    return size.weights * BYTES_PER_TRAINED_WEIGHT


@dataclass(frozen=True)
class CostModel:
    """How long trainings take, worked out from the measured speed of one encoder.

    Args:
        seconds_per_subword: Measured time of a forward pass of that encoder.
        measured: Its size.
        facts: The data.
    """

    seconds_per_subword: float
    measured: EncoderSize
    facts: DataFacts

    def minutes(self, size: EncoderSize, groups: LayerGroups, schedule: FreezeSchedule, epochs: float) -> float:
        """Return about how long a run takes.

        Frozen layers below all that trains are run once a stage, because their states are stored; those that train are
        run in each epoch, forward and backward. Validation is run once an epoch.

        Args:
            size: The size of the run's encoder.
            groups: The groups of its model.
            schedule: Its schedule.
            epochs: Its length.
        """
        train = validation = 0.0
        left = epochs
        for i, stage in enumerate(schedule.stages):
            share = left if stage.epochs is None or i == len(schedule.stages) - 1 else min(stage.epochs, left)
            left -= share
            below = _share_below(stage, groups)
            train += below + share * (1 - below) * PASSES_OF_TRAINING
            validation += below + share * (1 - below)
        subwords = train * self.facts.subwords + validation * self.facts.validation_subwords
        per_subword = self.seconds_per_subword * size.cost / self.measured.cost
        return subwords * per_subword / 60


def _share_below(stage: FreezeStage, groups: LayerGroups) -> float:
    """Return the share of the layers that lie below all that trains."""
    layers = groups.layers
    trained = set(stage.trained(groups))
    if EMBEDDINGS in trained:
        return 0.0
    lowest = next((i for i, name in enumerate(layers) if name in trained), len(layers))
    return lowest / len(layers)
