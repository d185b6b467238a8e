"""Peak memory of training the heads and of predicting a file, by number of rows."""

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

EPOCHS = 2  # one fills the activation cache, one reads it
LABELED_ROWS = 1000
# The encoder is so small that a million rows take minutes: the memory for a file does not depend on its size.
HIDDEN_SIZE = 32
KIB_PER_MIB = 2**10


def peak_of_heads_training(work: Workload) -> float:
    """Train the heads with an activation cache in a separate process.

    Args:
        work: Workload. The process reads the prepared rows from disk.

    Returns:
        Peak resident memory of the process, in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        train: Any = work.data["train"]
        train.save_to_disk(folder)
        return _in_new_process(
            _train_heads, folder, work.encoder, work.data.tasks, work.batch_size, torch.get_num_threads()
        )


def peak_of_predictions(rows: int, encoder: str, batch_size: int) -> float:
    """Predict a file of generated rows with a very small encoder in a separate process.

    Args:
        rows: Number of rows.
        encoder: Hub name or folder with the tokenizer.
        batch_size: Number of rows per forward pass.

    Returns:
        Peak resident memory of the process, in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        write_rows(path, rows)
        return _in_new_process(_predict_file, path, encoder, batch_size, torch.get_num_threads())


def _in_new_process(function: Callable[..., None], *args: Any) -> float:
    """Return the peak resident memory of a process that only calls a function, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of, (function, *args))


def _peak_of(function: Callable[..., None], *args: Any) -> float:
    silence_libraries()
    function(*args)
    # getrusage would include the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    if match is None:
        raise RuntimeError("peak resident memory is only available on Linux: /proc/self/status has no VmHWM.")
    return int(match.group(1)) / KIB_PER_MIB


def _train_heads(folder: str, encoder: str, tasks: Sequence[TaskConfig], batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    data = PreparedData({"train": datasets.load_from_disk(folder)}, list(tasks), {})
    work = Workload(encoder, [], data, load_tokenizer(encoder), batch_size)
    time_staged_training(work, EPOCHS, "encoder", store_frozen="always")


def _predict_file(path: Path, encoder: str, batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(encoder)
    tasks = prepare_datasets({"train": list(generate_rows(LABELED_ROWS))}, tokenizer, TASKS).tasks
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=HIDDEN_SIZE,
    )
    small = path.with_name("encoder")
    BertModel(config).save_pretrained(small)
    # Answers that are left out need no memory either.
    intent, slots = tasks
    intent.abstain, slots.min_score = {"method": "mahalanobis", "threshold": -float(HIDDEN_SIZE)}, 0.1
    model = MultiTaskModel.from_encoder(small, [intent, slots])
    for statistic in model.scope_statistics.values():
        statistic.fit(torch.randn(LABELED_ROWS, HIDDEN_SIZE), torch.arange(LABELED_ROWS) % intent.num_labels)
    BulkPrediction(path, path.with_name("predictions.jsonl"), batch_size=batch_size).run(model, tokenizer)
