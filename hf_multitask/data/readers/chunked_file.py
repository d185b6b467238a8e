"""Files of any size in numbered chunks of rows. A broken row leaves the others readable."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN
from ...models.type_aliases import Row
from .cell_rows import NO_HEADER_HINT, NO_HEADER_OPTIONS
from .file_formats import TABLES, file_reader, find_format
from .file_reader import Columns, RawRow
from .reading_options import ReadingOptions
from .rows import rename_row

# A chunk ends after this many rows or bytes, whichever comes first.
CHUNK_ROWS = 4096
CHUNK_BYTES = 4 * 2**20


class ReadRow(NamedTuple):
    """A row of a file, or the reason why it is broken.

    Args:
        place: Location of the row, for messages.
        unit: ``"line"``, or ``"row"`` if the file has no lines.
        number: Line of the row, from 1, or its index, from 0.
        row: The row, with the file's names of columns; None if it is broken.
        reason: Reason why the row is broken.
    """

    place: str
    unit: str
    number: int
    row: Row | None
    reason: str = ""


class Chunk(NamedTuple):
    """Consecutive rows, not parsed yet.

    Args:
        number: Number of the chunk, from 0.
        raw_rows: The rows.
        share: Share of the file up to the end of this chunk, from 0 to 1; None if unknown.
    """

    number: int
    raw_rows: list[RawRow]
    share: float | None


class ChunkedFile:
    """Reads a file in chunks. The rows of each chunk are a function of the file only.

    Finding a chunk is much cheaper than parsing it, so a process that needs only some of the chunks can skip the
    others.

    Args:
        path: A file in one of the formats of `open_file`, or plain text with a text per line (``text``).
        format: The format. Defaults to the format of the file's extension.
        columns: See `open_file`.
        options: See `open_file`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the format is unknown.
    """

    def __init__(
        self,
        path: Path,
        format: str | None = None,
        columns: Columns | None = None,
        options: ReadingOptions | None = None,
    ) -> None:
        self.path = path
        self.format = format if path.is_dir() else find_format(path, format, allow_text=True)
        self._reader = file_reader(path, self.format, columns, options)
        self._may_lack_header = self.format in TABLES and (options is None or options.header is None)

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks.

        Raises:
            ValueError: If the file as a whole is not in its format, or lacks one of the columns.
        """
        number = num_rows = size = 0
        raw_rows: list[RawRow] = []
        for raw in self._reader.raw_rows():
            raw_rows.append(raw)
            more_rows, more_bytes = self._reader.extent(raw[1])
            num_rows, size = num_rows + more_rows, size + more_bytes
            if num_rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield Chunk(number, raw_rows, self._reader.share)
                number, num_rows, size, raw_rows = number + 1, 0, 0, []
        if raw_rows:
            yield Chunk(number, raw_rows, self._reader.share)

    def parse(self, chunk: Chunk) -> Iterator[ReadRow]:
        """Yield the rows of a chunk, including broken ones. An empty line is a row in plain text only."""
        for number, content in chunk.raw_rows:
            yield from self._read(number, content)

    def _read(self, number: int, content: object) -> list[ReadRow]:
        try:
            located = self._reader.parse(number, content)
        except ValueError as error:
            parts = list(self._reader.parts(number, content))
            if len(parts) == 1:
                return [self._broken(number, content, error)]
            return [row for index, part in parts for row in self._read(index, part)]
        path = str(self.path)
        found: list[ReadRow] = []
        for index, (row, line, _) in enumerate(located, start=number):
            if line is None:
                found.append(ReadRow(f"{path}, row {index}", "row", index, row))
            else:
                found.append(ReadRow(f"{path}:{line}", "line", line, row))
        return found

    def _broken(self, number: int, content: object, error: ValueError) -> ReadRow:
        has_line = self._reader.has_lines(content)
        place = f"{self.path}:{number}" if has_line else f"{self.path}, row {number}"
        return ReadRow(place, "line" if has_line else "row", number, None, str(error).removeprefix(f"{place}: "))

    def column_hint(self, row: Row) -> str:
        """Return what may be wrong with a table whose row has no text, for a message; nothing for other rows."""
        has_text = TEXT_COLUMN in row or TOKENS_COLUMN in row
        return "" if has_text or not self._may_lack_header else f" {NO_HEADER_HINT} {NO_HEADER_OPTIONS}"

    def rename(self, row: Row) -> Row:
        """Return a row with the library's names of columns."""
        return rename_row(row, self._reader.columns)
