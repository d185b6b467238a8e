"""A file of any size in numbered chunks of rows, where a broken row leaves the others readable."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import datasets
import pyarrow

from ...models.messages import unknown_name_message
from ...models.text_inputs import TEXT_COLUMN
from ...models.type_aliases import Row
from .file_formats import (
    DELIMITERS,
    LONGEST_CELL,
    ROW_COLUMN,
    Columns,
    checked_header,
    find_format,
    open_file,
    open_parquet,
    parse_object,
    table_row,
)
from .rows import LocatedRow, rename_row, with_label_names
from .text_lines import decode_line, open_binary

TEXT_FORMAT = "text"
TEXT_EXTENSIONS = {".txt": TEXT_FORMAT}
# A chunk ends behind so many rows or bytes, whichever comes first.
CHUNK_ROWS = 4096
CHUNK_BYTES = 4 * 2**20
# The longest row of a table: a quote that nobody closes would take all lines behind it for one cell.
_LONGEST_RECORD = 64 * 2**20
_PARQUET_ROWS_AT_ONCE = 256


class ReadRow(NamedTuple):
    """A row of a file, or what is broken about it.

    Args:
        place: What messages call it.
        where: Its ``line``, or its number as ``row`` where a file has no lines.
        given: The row with the file's names of the columns; None where it is broken.
        reason: What is broken.
    """

    place: str
    where: dict[str, int]
    given: Row | None
    reason: str = ""


class Piece(NamedTuple):
    """A row as it stands in the file, or some rows that follow each other.

    Args:
        number: The line of the first, or its number where a file has no lines.
        rows: How many there are.
        size: Bytes that they take.
        content: What the file holds of them.
    """

    number: int
    rows: int
    size: int
    content: Any


class Chunk(NamedTuple):
    """Rows that follow each other, not parsed yet.

    Args:
        number: Number of the chunk, from 0.
        pieces: The rows.
        share: How much of the file ends with this chunk, from 0 to 1; None where that is not known.
    """

    number: int
    pieces: list[Piece]
    share: float | None


class ChunkedFile:
    """Reads a file in chunks; which rows are in which is a function of the file alone.

    Finding a chunk costs little, parsing it much: who wants some of the chunks passes over the others.

    Args:
        path: A file in one of the formats of `open_file`, or plain text with a text a line (``text``).
        format: The format; by the file's extension where None.
        columns: See `open_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is not known.
    """

    def __init__(self, path: Path, format: str | None = None, columns: Columns | None = None) -> None:
        self.path = path
        self.columns = dict(columns or {})
        self.format = format if path.is_dir() else find_format(path, format, TEXT_EXTENSIONS)
        # These formats get our names of the columns while they are read.
        self.renames = self.format in ("jsonl", "parquet", *DELIMITERS) and ROW_COLUMN not in self.columns

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks.

        Raises:
            ValueError: If the file as a whole is not in its format, or has no such column. The message names it.
        """
        if self.format == "parquet":
            return _cut(_Batches(self.path, self._check_columns))
        if self.format in ("jsonl", TEXT_FORMAT):
            return _cut(_Lines(self.path))
        if self.format in DELIMITERS and self.renames:
            return _cut(_Records(self.path, DELIMITERS[self.format], self._check_columns))
        return _cut(_OtherRows(self.path, self.format, self.columns))

    def parse(self, chunk: Chunk) -> Iterator[ReadRow]:
        """Yield the rows of a chunk, broken ones too; an empty line is none, but in plain text."""
        for piece in chunk.pieces:
            if isinstance(piece.content, _Batch):
                rows = with_label_names(piece.content.batch.to_pylist(), piece.content.features)
                for number, row in enumerate(rows, start=piece.number):
                    yield ReadRow(f"{self.path}, row {number}", {"row": number}, row)
            elif isinstance(piece.content, LocatedRow) and piece.content.line is None:
                yield ReadRow(f"{self.path}, row {piece.number}", {"row": piece.number}, piece.content.row)
            else:
                yield from self._parse_line(piece)

    def rename(self, row: Row) -> Row:
        """Return a row with our names of its columns."""
        return rename_row(row, self.columns) if self.columns and self.renames else row

    def _parse_line(self, piece: Piece) -> Iterator[ReadRow]:
        place, where = f"{self.path}:{piece.number}", {"line": piece.number}
        try:
            row = self._row(piece.number, piece.content)
        except ValueError as error:
            yield ReadRow(place, where, None, str(error).removeprefix(f"{place}: "))
        else:
            if row is not None:
                yield ReadRow(place, where, row)

    def _row(self, number: int, content: Any) -> Row | None:
        if isinstance(content, LocatedRow):
            return content.row
        if isinstance(content, _Cells):
            if content.broken is not None:
                raise content.broken
            return table_row(self.path, number, content.header, content.cells)
        line = decode_line(self.path, number, content)
        if self.format == TEXT_FORMAT:
            return {TEXT_COLUMN: line.rstrip("\r\n")}
        return parse_object(self.path, number, line) if line.strip() else None

    def _check_columns(self, header: Sequence[str]) -> None:
        for ours, theirs in self.columns.items():
            if theirs not in header:
                raise ValueError(f"{self.path}: columns.{ours}: {unknown_name_message('column', theirs, header)}")


class _Pieces(Protocol):
    @property
    def share(self) -> float | None: ...

    def __iter__(self) -> Iterator[Piece]: ...


def _cut(pieces: _Pieces) -> Iterator[Chunk]:
    number, rows, size = 0, 0, 0
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
        rows += piece.rows
        size += piece.size
        if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield Chunk(number, held, pieces.share)
            number, held, rows, size = number + 1, [], 0, 0
    if held:
        yield Chunk(number, held, pieces.share)


class _Lines:
    """The lines of a file, undecoded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = max(path.stat().st_size, 1)
        self.packed: Any = None

    @property
    def share(self) -> float:
        return 1.0 if self.packed is None or self.packed.closed else self.packed.tell() / self.size

    def __iter__(self) -> Iterator[Piece]:
        try:
            with open_binary(self.path) as file:
                self.packed = getattr(file, "fileobj", file)
                for number, line in enumerate(file, start=1):
                    yield Piece(number, 1, len(line), line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.path}: expected a whole gzip file. {error}") from error


class _Cells(NamedTuple):
    """The cells of a row of a table; ``broken`` says what is wrong with a line of it."""

    header: Sequence[str]
    cells: Sequence[str]
    broken: ValueError | None


class _Records:
    """The rows of a table behind its header, each from one line or several."""

    def __init__(self, path: Path, delimiter: str, check_header: Callable[[Sequence[str]], None]) -> None:
        self.path = path
        self.delimiter = delimiter
        self.check_header = check_header
        self.lines = _Lines(path)
        self.first: int | None = None
        self.size = 0
        self.broken: ValueError | None = None

    @property
    def share(self) -> float:
        return self.lines.share

    def __iter__(self) -> Iterator[Piece]:
        csv.field_size_limit(LONGEST_CELL)
        reader = csv.reader(self._decoded(), delimiter=self.delimiter, strict=True)
        header: list[str] | None = None
        while (cells := self._next(reader)) is not None:
            if header is None:
                if self.broken is not None:
                    raise self.broken
                if cells:
                    header = checked_header(self.path, cells)
                    self.check_header(header)
            elif cells or self.broken is not None:
                yield Piece(self.first or 1, 1, self.size, _Cells(header, cells, self.broken))

    def _next(self, reader: Iterator[list[str]]) -> list[str] | None:
        """Return the next row's cells, None behind the last; note where it begins and what is broken about it."""
        self.first, self.size, self.broken = None, 0, None
        try:
            return next(reader, None)
        except csv.Error as error:
            self.broken = self.broken or ValueError(f"{self.path}:{self.first}: {error}.")
            if "end of data" in str(error):
                self._refuse_open_quote()
            return []

    def _decoded(self) -> Iterator[str]:
        for number, _, size, line in self.lines:
            self.first = self.first or number
            self.size += size
            if self.size > _LONGEST_RECORD:
                self._refuse_open_quote()
            try:
                yield decode_line(self.path, number, line)
            except ValueError as error:
                self.broken = self.broken or error
                yield line.replace(b"\0", b"").replace(b"\r", b"").decode(errors="replace")

    def _refuse_open_quote(self) -> None:
        # All rows behind it are in its cell: they would be lost with the one that is broken.
        raise ValueError(f"{self.path}:{self.first}: a cell begins with a quote that is never closed.")


class _Batch(NamedTuple):
    """Some rows of a Parquet file."""

    batch: pyarrow.RecordBatch
    features: datasets.Features


class _Batches:
    """The rows of a Parquet file."""

    def __init__(self, path: Path, check_header: Callable[[Sequence[str]], None]) -> None:
        self.path = path
        self.check_header = check_header
        self.share = 0.0

    def __iter__(self) -> Iterator[Piece]:
        file, features = open_parquet(self.path)
        self.check_header(file.schema_arrow.names)
        number, total = 0, max(file.metadata.num_rows, 1)
        try:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS_AT_ONCE):
                piece = Piece(number, batch.num_rows, batch.nbytes, _Batch(batch, features))
                number += batch.num_rows
                self.share = number / total
                yield piece
        except (OSError, pyarrow.ArrowException) as error:
            raise ValueError(f"{self.path}: expected a whole Parquet file. {error}") from error


class _OtherRows:
    """The rows of a format in which none can be read behind a broken one."""

    share: float | None = None

    def __init__(self, path: Path, format: str | None, columns: Columns) -> None:
        self.path, self.format, self.columns = path, format, columns

    def __iter__(self) -> Iterator[Piece]:
        for number, located in enumerate(open_file(self.path, self.format, self.columns)):
            yield Piece(number if located.line is None else located.line, 1, 0, located)
