"""The memory that training the heads and predicting a file take, by the number of rows."""

import multiprocessing
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import BertConfig, BertModel

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.data import PreparedData
from hf_multitask.prediction import BulkPrediction

from .our_trainer import time_staged_training
from .rows import TASKS, generate_rows, write_rows
from .workload import Workload, silence_libraries

EPOCHS = 2  # one that fills the store, one that reads it
LABELLED_ROWS = 1000
# Of an encoder so small that a million rows take minutes: what a file takes does not depend on it.
WIDTH = 32
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
        return _in_own_process(_train_heads, *given)


def peak_of_predictions(rows: int, encoder: str, batch_size: int) -> float:
    """Predict a file of generated rows by a model with a very small encoder, in a process of its own.

    Args:
        rows: Number of the rows.
        encoder: Hub name or folder with the tokenizer.
        batch_size: Rows a pass.

    Returns:
        The highest resident memory of the process, in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        write_rows(path, rows)
        return _in_own_process(_predict_file, path, encoder, batch_size, torch.get_num_threads())


def _in_own_process(function: Callable[..., None], *args: Any) -> float:
    """Return the highest resident memory of a process that does nothing but this, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of, (function, *args))


def _peak_of(function: Callable[..., None], *args: Any) -> float:
    silence_libraries()
    function(*args)
    # What getrusage says would include the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError("the highest resident memory is only known on Linux: /proc/self/status has no VmHWM.")
    return int(found.group(1)) / KIB_A_MIB


def _train_heads(folder: str, encoder: str, tasks: Sequence[TaskConfig], batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    data = PreparedData({"train": datasets.load_from_disk(folder)}, list(tasks), {})
    work = Workload(encoder, [], data, load_tokenizer(encoder), batch_size)
    time_staged_training(work, EPOCHS, "encoder", store_frozen="always")


def _predict_file(path: Path, encoder: str, batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(encoder)
    tasks = prepare_datasets({"train": list(generate_rows(LABELLED_ROWS))}, tokenizer, TASKS).tasks
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=WIDTH,
    )
    small = path.with_name("encoder")
    BertModel(config).save_pretrained(small)
    model = MultiTaskModel.from_encoder(small, tasks)
    BulkPrediction(path, path.with_name("predictions.jsonl"), batch_size=batch_size).run(model, tokenizer)
