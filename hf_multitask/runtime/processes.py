"""Processes started by ``torchrun`` or ``accelerate launch``."""

import logging
import os

import torch
from accelerate import PartialState

# Environment variables in which launchers, MPI among them, write the number of processes.
_NUMBERS_OF_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def are_several_on_cpu() -> bool:
    """Return whether this is one of several processes on a machine without an accelerator.

    In that case accelerate treats each process as the only one, unless it is asked to use the CPU.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()


def is_alone() -> bool:
    """Return whether neither a launcher nor the program has joined this process with others; by accelerate's rule."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    sizes = (os.environ.get(name, "1") for name in _NUMBERS_OF_PROCESSES)
    return int(os.environ.get("LOCAL_RANK", "-1")) == -1 and all(int(size) <= 1 for size in sizes)


def join_processes() -> PartialState:
    """Return the state of this process among the processes that were started."""
    state = PartialState(cpu=are_several_on_cpu())
    if state.num_processes == 1 and are_several_on_cpu():
        # Other code has created accelerate's state before, without asking for the CPU.
        PartialState._reset_state()
        state = PartialState(cpu=True)
    return state


def log_once(logger: logging.Logger, message: str, *values: object, level: int = logging.INFO) -> None:
    """Log a message on the main process only.

    Args:
        logger: The logger.
        message: Message with the places of values, as `logging.Logger.info` takes it.
        values: The values.
        level: Level of the message.
    """
    if PartialState().is_main_process:
        logger.log(level, message, *values)
