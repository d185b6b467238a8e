"""Memory between the trainings of one process."""

import gc

import torch


def free_memory() -> None:
    """Free the memory of a training that nothing refers to any more, before the next one begins."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
