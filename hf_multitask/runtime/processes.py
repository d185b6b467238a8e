"""The processes that ``torchrun`` or ``accelerate launch`` has started."""

import os

import torch
from accelerate import PartialState


def are_several_on_cpu() -> bool:
    """Tell whether this is one of several processes on a machine without an accelerator.

    There accelerate takes each for the only one, unless it is told to use the CPU.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()


def join_processes() -> PartialState:
    """Return this process's place among those that were started."""
    state = PartialState(cpu=are_several_on_cpu())
    if state.num_processes == 1 and are_several_on_cpu():
        # Something has asked accelerate before.
        PartialState._reset_state()
        state = PartialState(cpu=True)
    return state
