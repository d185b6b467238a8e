"""CSV and TSV files: a row of cells per row, or a word per line."""

import csv
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn, TypeAlias

from ...models.text_inputs import TOKENS_COLUMN
from .cell_rows import ROW_COLUMN, CellReader
from .file_reader import Columns, RawRow
from .reading_options import NO_QUOTING, ReadingOptions
from .rows import BrokenRow, LocatedRow
from .table_form import TableForm, dialect, find_form, is_open, parse_quoted, split_line
from .text_lines import TextLines

logger = logging.getLogger(__name__)

_MAX_CELL_CHARACTERS = 2**31 - 1
# A quote that is never closed would read the rest of the file into one cell.
_MAX_RECORD_BYTES = 64 * 2**20
_MAX_LINES_OF_CELL = 1000


# The cells of a row, or the error in its lines, and the size of the lines in bytes.
_Record: TypeAlias = tuple[list[str] | ValueError, int]
# Number, text and size in bytes of a line.
_Line: TypeAlias = tuple[int, str, int]


class TableReader(CellReader[_Record]):
    """A CSV or TSV file.

    Args:
        path: The file.
        columns: See `CellReader`, as for ``options`` and ``has_word_per_line``.
        format: ``"csv"`` or ``"tsv"``.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns | None,
        format: str,
        options: ReadingOptions,
        has_word_per_line: bool = False,
    ) -> None:
        super().__init__(path, columns, options, has_word_per_line)
        self._format = format
        self._lines = TextLines(path, options.encoding)
        # Of the record being read: its first and last line, its size in bytes, and the first error in its lines.
        self._first, self._last, self._size = 0, 0, 0
        self._error: ValueError | None = None
        self._spanning: list[int] = []

    @property
    def share(self) -> float:
        """See `FileReader.share`."""
        return self._lines.share

    @cached_property
    def _form(self) -> TableForm:
        return find_form(self._lines, self._format, self._options)

    def raw_rows(self) -> Iterator[RawRow[_Record]]:
        """See `FileReader.raw_rows`."""
        self._header, self._spanning = [], []
        by_line = self._form.quoting in (None, NO_QUOTING)
        records = self._line_records() if by_line else self._quoted_records()
        for number, (cells, size) in records:
            if isinstance(cells, ValueError):
                raise cells
            self._header = self._read_header(cells)
            if self._options.header is False:
                yield number, (cells, size)
            break
        yield from records
        if self._spanning:
            logger.warning(
                "%s: rows with a cell that spans several lines: %d, the first in line %d. If the quotes around them "
                "are characters of the texts, give `quoting: none`.",
                self.path,
                len(self._spanning),
                self._spanning[0],
            )

    def extent(self, content: _Record) -> tuple[int, int]:
        """See `FileReader.extent`."""
        return 1, content[1]

    def parse(self, number: int, content: _Record) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        cells, header = content[0], self._header
        if isinstance(cells, ValueError):
            raise cells
        if len(cells) != len(header):
            expected = f"expected {len(header)} cells ({', '.join(header)})"
            raise ValueError(f"{self.path}:{number}: {expected}, found {len(cells)}.{_hint(cells)}")
        return (self._located(cells, number),)

    def _quoted_records(self) -> Iterator[RawRow[_Record]]:
        """Yield records whose quoted cells may contain delimiters and line ends."""
        csv.field_size_limit(_MAX_CELL_CHARACTERS)
        reader = csv.reader(self._decoded_lines(), **dialect(self._form))  # type: ignore[arg-type]
        while True:
            self._first, self._size, self._error = 0, 0, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    self._refuse_open_quote()
                hint = 'If its quotes are characters of the text, give `quoting: none` (or `backslash` for \\").'
                cells, self._error = [], self._error or ValueError(f"{self.path}:{self._first}: {error}. {hint}")
            if self._last != self._first and cells:
                self._spanning.append(self._first)
            if cells or self._error:
                yield self._first, (self._error or cells, self._size)

    def _decoded_lines(self) -> Iterator[str]:
        for number, line in self._table_lines():
            self._first = self._first or number
            self._last = number
            self._size += len(line)
            if self._size > _MAX_RECORD_BYTES:
                self._refuse_open_quote()
            try:
                yield self._lines.decode(number, line)
            except ValueError as error:
                # The row is broken, but the next one starts only where its quotes end.
                self._error = self._error or error
                yield line.replace(b"\0", b"").replace(b"\r", b"").decode(errors="replace")

    def _line_records(self) -> Iterator[RawRow[_Record]]:
        """Yield records that are whole lines, except if a line has too few cells and the last one opens a quote."""
        form = self._form
        waiting: list[_Line] = []
        for number, line in self._table_lines():
            try:
                text = self._lines.decode(number, line).rstrip("\r\n")
            except ValueError as error:
                yield from self._give_up(waiting)
                yield number, (error, len(line))
                continue
            width = len(self._header)
            cells = split_line(text, form, width)
            if waiting:
                waiting.append((number, text, len(line)))
                if (joined := self._joined(waiting)) is not None:
                    yield joined
                    continue
                if len(cells) != width and len(waiting) < _MAX_LINES_OF_CELL:
                    continue
                waiting.pop()
                yield from self._give_up(waiting)
            if len(cells) < width and is_open(text, form):
                waiting.append((number, text, len(line)))
            elif text:
                yield number, (cells, len(line))
        yield from self._give_up(waiting)

    def _joined(self, waiting: list[_Line]) -> RawRow[_Record] | None:
        """Return the record of lines whose quotes are closed now, and remove the lines; None if there is none."""
        if sum(text.count('"') for _, text, _ in waiting) % 2:
            return None
        cells = parse_quoted("\n".join(text for _, text, _ in waiting), self._form)
        if cells is None or len(cells) != len(self._header):
            return None
        first, size = waiting[0][0], sum(size for _, _, size in waiting)
        waiting.clear()
        self._spanning.append(first)
        return first, (cells, size)

    def _give_up(self, waiting: list[_Line]) -> Iterator[RawRow[_Record]]:
        """Yield lines as records of their own, and remove them, as their quote is not closed before the next row."""
        for number, text, size in waiting:
            if text:
                yield number, (split_line(text, self._form, len(self._header)), size)
        waiting.clear()

    def _table_lines(self) -> Iterator[tuple[int, bytes]]:
        lines = iter(self._lines)
        if self._form.has_delimiter_line:
            next(lines, None)
        return lines

    def _refuse_open_quote(self) -> NoReturn:
        # All following rows are in its cell. They would be lost with the broken one.
        raise ValueError(
            f"{self.path}:{self._first}: a cell begins with a quote that is never closed. If the quote is a character "
            "of the text, give `quoting: none`."
        )


def read_words(path: Path, columns: Columns, table: CellReader) -> Iterator[LocatedRow | BrokenRow]:
    """Group the words of a table with a word per line into rows.

    Args:
        path: The table.
        columns: By the library's name of a column, its name in the file. ``row`` tells rows apart: a word whose cell
            is empty belongs to the row of the word before it.
        table: Reader of the table, with a word per line.

    Yields:
        The rows, with the library's names of columns; a broken one for each line that cannot be read.

    Raises:
        ValueError: If ``columns`` names no ``tokens``, or the table as a whole is broken.
    """
    names = {ours: str(theirs) for ours, theirs in columns.items() if ours != ROW_COLUMN}
    row_column = str(columns[ROW_COLUMN])
    if TOKENS_COLUMN not in names:
        raise ValueError(f"{path}: columns.{ROW_COLUMN} needs columns.{TOKENS_COLUMN}, the column of the words.")
    current: LocatedRow | None = None
    current_name: object = None
    broken: BrokenRow | None = None
    for number, content in table.raw_rows():
        try:
            ((cells, _, _),) = table.parse(number, content)
        except ValueError as error:
            # The name of its row may not be known, so that it breaks the row that is being read.
            broken = broken or BrokenRow(error, number if current is None else current.line)
            continue
        name = cells[row_column]
        if current is None or (name is not None and name != current_name):
            if broken is not None or current is not None:
                yield broken or current  # type: ignore[misc]
            broken, current_name = None, name
            current = LocatedRow({ours: [] for ours in names}, number, [])
        if cells[names[TOKENS_COLUMN]] is None:
            broken = broken or BrokenRow(ValueError(f"{path}:{number}: the word is missing."), current.line)
            continue
        current.word_lines.append(number)
        for ours, theirs in names.items():
            current.row[ours].append(cells[theirs])
    if broken is not None or current is not None:
        yield broken or current  # type: ignore[misc]


def _hint(cells: Sequence[str]) -> str:
    if any(cell.startswith('"') for cell in cells):
        return " If a quoted cell goes on in the next line, give `quoting: double`."
    return " If the delimiter is another one, give `delimiter`."
