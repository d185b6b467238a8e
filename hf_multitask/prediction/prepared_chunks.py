"""Chunks of an input, prepared for the model in this process or ahead in worker processes."""

import datetime
import decimal
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.readers.chunked_file import Chunk, ChunkedFile, ReadRow
from ..models.messages import unknown_name_message
from ..models.predictor import prepare_inputs
from ..models.text_alignment import Aligner
from ..models.text_inputs import TextInput, check_characters, check_input, read_input
from ..models.type_aliases import JsonObject, Row

Item = TypeVar("Item")


class PreparedChunk(NamedTuple):
    """A chunk of rows, tokenized.

    Args:
        number: Number of the chunk.
        inputs: The texts.
        rows: The texts as rows for the collator.
        kept: For each text, the columns to copy to the output.
        skipped: Position and reason of each skipped row.
        share: Share of the input up to the end of this chunk; None if unknown.
    """

    number: int
    inputs: list[TextInput]
    rows: list[Row]
    kept: list[Row]
    skipped: list[JsonObject]
    share: float | None


class EndOfInput(NamedTuple):
    """Marker after the last chunk, with the number of all chunks."""

    chunks: int


class Failure(NamedTuple):
    """Marker for an error that ends the chunks."""

    error: Exception


@dataclass
class ChunkPreparer:
    """Parses, checks and tokenizes chunks.

    Args:
        source: The input.
        align: Tokenizes words.
        splits_words: Whether to split texts into words.
        keep: Columns to copy to the output.
        skip: Whether to skip broken rows instead of stopping at the first.
    """

    source: ChunkedFile
    align: Aligner
    splits_words: bool
    keep: Sequence[str]
    skip: bool

    def __call__(self, chunk: Chunk) -> PreparedChunk:
        """Prepare a chunk.

        Raises:
            ValueError: At the first broken row, if they are not skipped. The message names file and line.
        """
        inputs: list[TextInput] = []
        kept: list[Row] = []
        skipped: list[JsonObject] = []
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

    def _read(self, found: ReadRow) -> tuple[TextInput, Row]:
        if found.row is None:
            raise ValueError(found.reason)
        row = self.source.rename(found.row)
        try:
            check_input(row, found.place)
        except ValueError as error:
            raise ValueError(f"{error}{self.source.column_hint(row)}") from error
        kept = {name: _kept_value(name, found.row, found.place) for name in self.keep}
        return read_input(row, found.place, self.splits_words), kept


def prepared_chunks(
    prepare: ChunkPreparer, done: Set[int], process: int, processes: int, workers: int
) -> Iterator[PreparedChunk | EndOfInput]:
    """Yield this process's share of the chunks that are not predicted yet.

    Args:
        prepare: Prepares the chunks.
        done: Numbers of the chunks that are predicted already.
        process: Index of this process.
        processes: Number of processes.
        workers: Number of worker processes that prepare chunks ahead; with 0, each chunk is prepared when it is taken.

    Yields:
        The chunks, followed by at least one `EndOfInput`.

    Raises:
        ValueError: If the input is not in its format, or a row is broken and not skipped.
        OSError: If the input cannot be read.
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
    """This process's share of the missing chunks, dealt out among its workers."""

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
            # The loader would change the message of an error that a worker raises.
            yield Failure(error)
        else:
            yield EndOfInput(chunks)


def _end_with_parent(worker: int) -> None:
    """End a worker when the process that started it is killed."""
    # The loader does not notice it while the worker is blocked writing to a queue that nobody reads.
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(item: Item) -> Item:
    return item


def _kept_value(name: str, row: Row, place: str) -> object:
    """Return the value of a column as JSON can represent it."""
    if name not in row:
        raise ValueError(f"{place}: keep: {unknown_name_message('column', name, row)}")
    try:
        written = json.dumps(row[name], ensure_ascii=False, default=_as_text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: keep: column {name!r}: {error}, found {row[name]!r:.80}.") from error
    check_characters(written, f"{place}: keep: column {name!r}")
    return json.loads(written)


def _as_text(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.time, decimal.Decimal)):
        return str(value)
    raise TypeError(f"expected a value that JSON can represent, not of type {type(value).__name__}")
