"""The memory that training the heads takes, by the number of rows."""

import multiprocessing
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch

from hf_multitask import TaskConfig, load_tokenizer
from hf_multitask.data import PreparedData

from .our_trainer import time_staged_training
from .workload import Workload, silence_libraries

EPOCHS = 2  # one that fills the store, one that reads it
KIB_A_MIB = 2**10


def peak_of_heads_training(work: Workload) -> float:
    """Train the heads with a store, in a process of its own.

    Args:
        work: What to train on; the process reads the prepared rows from disk.

    Returns:
        The highest resident memory of the process, in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        train: Any = work.data["train"]
        train.save_to_disk(folder)
        given = (folder, work.encoder, work.data.tasks, work.batch_size, torch.get_num_threads())
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_train_heads, given)


def _train_heads(folder: str, encoder: str, tasks: Sequence[TaskConfig], batch_size: int, threads: int) -> float:
    silence_libraries()
    torch.set_num_threads(threads)
    data = PreparedData({"train": datasets.load_from_disk(folder)}, list(tasks), {})
    work = Workload(encoder, [], data, load_tokenizer(encoder), batch_size)
    time_staged_training(work, EPOCHS, "encoder", store_frozen="always")
    # What getrusage says would include the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError("the highest resident memory is only known on Linux: /proc/self/status has no VmHWM.")
    return int(found.group(1)) / KIB_A_MIB
