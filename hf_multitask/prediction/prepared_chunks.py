"""Chunks of an input made ready for the model, here or in processes that work ahead."""

import datetime
import decimal
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.readers.chunked_file import Chunk, ChunkedFile, ReadRow
from ..models.messages import unknown_name_message
from ..models.predictor import prepare_inputs
from ..models.text_alignment import Aligner
from ..models.text_inputs import TextInput, check_characters, check_input, read_input


class PreparedChunk(NamedTuple):
    """A chunk of rows, tokenized.

    Args:
        number: Its number.
        inputs: The texts.
        rows: The texts as the collator takes them.
        kept: By text, the columns that are copied to the output.
        skipped: Rows that are left out: where they stand, and why.
        share: How much of the input ends with this chunk; None where that is not known.
    """

    number: int
    inputs: list[TextInput]
    rows: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    share: float | None


class EndOfInput(NamedTuple):
    """What comes behind the last chunk: how many chunks there are."""

    chunks: int


class Failure(NamedTuple):
    """Why there are no more chunks."""

    error: Exception


@dataclass
class ChunkPreparer:
    """Parses, checks and tokenizes chunks.

    Args:
        source: The input.
        align: What tokenizes words.
        splits_words: Whether texts are split into words.
        keep: Columns that are copied to the output.
        skip: Leave broken rows out instead of stopping at the first.
    """

    source: ChunkedFile
    align: Aligner
    splits_words: bool
    keep: Sequence[str]
    skip: bool

    def __call__(self, chunk: Chunk) -> PreparedChunk:
        """Prepare a chunk.

        Raises:
            ValueError: At the first broken row, unless such are skipped. The message names file and line.
        """
        inputs, kept, skipped = [], [], []
        for row in self.source.parse(chunk):
            try:
                text, columns = self._read(row)
            except ValueError as error:
                reason = str(error).removeprefix(f"{row.place}: ")
                if not self.skip:
                    raise ValueError(f"{row.place}: {reason}") from error
                skipped.append({row.unit: row.number, "reason": reason})
            else:
                inputs.append(text)
                kept.append(columns)
        rows = prepare_inputs(self.align, inputs) if inputs else []
        return PreparedChunk(chunk.number, inputs, rows, kept, skipped, chunk.share)

    def _read(self, read: ReadRow) -> tuple[TextInput, dict[str, Any]]:
        if read.row is None:
            raise ValueError(read.reason)
        row = self.source.rename(read.row)
        check_input(row, read.place)
        kept = {name: _kept_value(name, read.row, read.place) for name in self.keep}
        return read_input(row, read.place, self.splits_words), kept


def prepared_chunks(
    prepare: ChunkPreparer, done: Set[int], process: int, processes: int, workers: int
) -> Iterator[PreparedChunk | EndOfInput]:
    """Yield the chunks that are still to be predicted, each to one of the processes.

    Args:
        prepare: What prepares them.
        done: The chunks that are predicted already.
        process: Number of this process.
        processes: How many there are.
        workers: Processes that this one starts to prepare chunks ahead; where 0, it prepares each when it is taken.

    Yields:
        The chunks, and behind them at least one `EndOfInput`.

    Raises:
        ValueError: If the input is not in its format, or a row is broken.
        OSError: If it cannot be read.
    """
    chunks = _PendingChunks(prepare, done, process, processes)
    loader = DataLoader(
        chunks,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=1 if workers else None,
        worker_init_fn=_end_with_parent,
    )
    for item in loader:
        if isinstance(item, Failure):
            raise item.error
        yield item


class _PendingChunks(IterableDataset):
    """What one process has to predict, dealt out among its workers."""

    def __init__(self, prepare: ChunkPreparer, done: Set[int], process: int, processes: int) -> None:
        self.prepare, self.done, self.process, self.processes = prepare, done, process, processes

    def __iter__(self) -> Iterator[PreparedChunk | EndOfInput | Failure]:
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        mine, turns = self.process + number * self.processes, self.processes * count
        pending = chunks = 0
        try:
            for chunk in self.prepare.source:
                chunks += 1
                if chunk.number in self.done:
                    continue
                if pending % turns == mine:
                    yield self.prepare(chunk)
                pending += 1
        except (ValueError, OSError) as error:
            # An error that a worker raises comes with another message.
            yield Failure(error)
        else:
            yield EndOfInput(chunks)


def _end_with_parent(worker: int) -> None:
    """See to it that a worker does not outlive a process that was killed."""
    # The loader's own watch leaves a worker alone that is writing what nobody reads any more.
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(item: Any) -> Any:
    return item


def _kept_value(name: str, row: dict[str, Any], place: str) -> Any:
    """Return a column's value as JSON can hold it."""
    if name not in row:
        raise ValueError(f"{place}: keep: {unknown_name_message('column', name, row)}")
    try:
        written = json.dumps(row[name], ensure_ascii=False, default=_as_text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: keep: column {name!r}: {error}, found {row[name]!r:.80}.") from error
    check_characters(written, f"{place}: keep: column {name!r}")
    return json.loads(written)


def _as_text(value: Any) -> str:
    if isinstance(value, (datetime.date, datetime.time, decimal.Decimal)):
        return str(value)
    raise TypeError(f"expected a value that JSON can hold, not of type {type(value).__name__}")
