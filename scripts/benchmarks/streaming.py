"""Memory of streaming, by number of rows in the file."""

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from hf_multitask import load_tokenizer, prepare_datasets
from hf_multitask.data import MultiTaskDataCollator, Sampling, StreamBatches, TrainingStream

from .rows import TASKS, write_rows

BATCH_SIZE = 32
MIB = 2**20


def measure_streams(sizes: Sequence[int], encoder: str) -> list[dict[str, Any]]:
    """Stream a generated file of each size once, each in a separate process.

    Args:
        sizes: Numbers of rows of the files.
        encoder: Hub name or folder with the tokenizer.

    Returns:
        Result of `stream_once` for each size.
    """
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder, f"{size}.jsonl")
            write_rows(path, size)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(stream_once, (str(path), size, encoder)))
            path.unlink()
    return results


def stream_once(path: str, rows: int, encoder: str) -> dict[str, Any]:
    """Read the labels from a file, then stream its rows once as in training.

    Args:
        path: The file.
        rows: Number of rows of the file.
        encoder: Hub name or folder with the tokenizer.

    Returns:
        ``rows``; ``rows_per_second`` and ``rows_per_cpu_second`` of the batches; ``start_mib`` and ``peak_mib``, the
        resident memory before the first batch and its peak while streaming.
    """
    tokenizer = load_tokenizer(encoder)
    data = prepare_datasets({"train": path}, tokenizer, TASKS, streaming=True)
    stream = data["train"]
    if not isinstance(stream, TrainingStream):
        raise TypeError(f"expected a stream, found {type(stream)}.")
    collate = MultiTaskDataCollator(tokenizer, data.tasks)
    batches = StreamBatches(stream, collate, Sampling(), seed=0, batch_size=BATCH_SIZE)
    process = psutil.Process()
    start_memory = peak = process.memory_info().rss
    start, cpu_start = time.perf_counter(), time.process_time()
    streamed = 0
    for batch in islice(batches, -(-rows // BATCH_SIZE)):
        streamed += len(batch["labels"]["intent"]) if batch else 0
        peak = max(peak, process.memory_info().rss)
    return {
        "rows": rows,
        "rows_per_second": streamed / (time.perf_counter() - start),
        "rows_per_cpu_second": streamed / (time.process_time() - cpu_start),
        "start_mib": start_memory / MIB,
        "peak_mib": peak / MIB,
    }
