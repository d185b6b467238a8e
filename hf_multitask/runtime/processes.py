"""Processes started by ``torchrun`` or ``accelerate launch``."""

import os

import torch
from accelerate import PartialState


def are_several_on_cpu() -> bool:
    """Return whether this is one of several processes on a machine without an accelerator.

    In that case accelerate treats each process as the only one, unless it is asked to use the CPU.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()


def join_processes() -> PartialState:
    """Return the state of this process among the processes that were started."""
    state = PartialState(cpu=are_several_on_cpu())
    if state.num_processes == 1 and are_several_on_cpu():
        # Other code has created accelerate's state before, without asking for the CPU.
        PartialState._reset_state()
        state = PartialState(cpu=True)
    return state
