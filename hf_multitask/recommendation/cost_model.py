"""Available compute, and the estimated time of a schedule on it."""

import os
from dataclasses import dataclass

import psutil
import torch

from ..freezing import FreezeSchedule, FreezeStage
from ..models.layer_groups import EMBEDDINGS, LayerGroups, layer_of
from ..runtime.byte_sizes import format_bytes
from .data_facts import DataFacts
from .encoder_catalogue import EncoderSize

# Cost of training a layer in forward passes: one forward, about two for the backward pass, and the optimizer step.
TRAINING_PASSES = 3.5
# Weight, gradient and two moments of AdamW in float32, without the activations of a batch.
BYTES_PER_TRAINED_WEIGHT = 16


@dataclass(frozen=True)
class Machine:
    """Available compute.

    Args:
        device: Type of the device: ``"cpu"``, ``"cuda"``, ….
        device_name: Name of the device.
        cores: Number of CPU cores that this process may use.
        memory_bytes: Free memory of the accelerator, or of the machine if there is none.
    """

    device: str
    device_name: str
    cores: int
    memory_bytes: int

    @property
    def has_accelerator(self) -> bool:
        """Whether the device is more than a CPU."""
        return self.device != "cpu"

    def __str__(self) -> str:
        gibibytes = f"{format_bytes(self.memory_bytes, 'GiB')} free"
        if self.has_accelerator:
            return f"{self.device_name}, {gibibytes}"
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'}, no accelerator, {gibibytes}"


def detect_machine(device: torch.device) -> Machine:
    """Return the available compute.

    Args:
        device: Device that a run would use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Machine(device.type, torch.cuda.get_device_name(device), cores, free)
    return Machine(device.type, device.type, cores, psutil.virtual_memory().available)


def training_bytes(size: EncoderSize) -> int:
    """Return the memory for training all weights of an encoder, without the activations of a batch."""
    return size.weights * BYTES_PER_TRAINED_WEIGHT


@dataclass(frozen=True)
class CostModel:
    """Model of the training time, based on the measured speed of one encoder.

    Args:
        seconds_per_subword: Measured time of a forward pass of that encoder.
        measured: Size of that encoder.
        facts: Facts about the data.
    """

    seconds_per_subword: float
    measured: EncoderSize
    facts: DataFacts

    def minutes(self, size: EncoderSize, groups: LayerGroups, schedule: FreezeSchedule, epochs: float) -> float:
        """Return the estimated duration of a run in minutes.

        Frozen layers below the lowest trained layer run once per stage, because their states are cached. The other
        layers run forward and backward in each epoch. Validation runs once per epoch.

        Args:
            size: Size of the encoder.
            groups: Layer groups of the model.
            schedule: Freeze schedule.
            epochs: Number of epochs.
        """
        train = validation = 0.0
        remaining = epochs
        for i, stage in enumerate(schedule.stages):
            is_last = i == len(schedule.stages) - 1
            stage_epochs = remaining if stage.epochs is None or is_last else min(stage.epochs, remaining)
            remaining -= stage_epochs
            below = _share_below(stage, groups)
            train += below + stage_epochs * (1 - below) * TRAINING_PASSES
            validation += below + stage_epochs * (1 - below)
        subwords = train * self.facts.subwords + validation * self.facts.validation_subwords
        per_subword = self.seconds_per_subword * size.cost / self.measured.cost
        return subwords * per_subword / 60


def _share_below(stage: FreezeStage, groups: LayerGroups) -> float:
    """Return the share of the encoder layers below the lowest trained layer."""
    layers = groups.layers
    trained = {layer_of(name) for name in stage.trained(groups)}
    if EMBEDDINGS in trained:
        return 0.0
    lowest = next((i for i, name in enumerate(layers) if name in trained), len(layers))
    return lowest / len(layers)
