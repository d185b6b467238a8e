"""Form of a table: the delimiter, guessed from its first rows, and how a line is split into cells."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .reading_options import BACKSLASH, DOUBLE, NO_QUOTING, ReadingOptions, log_guess
from .text_lines import TextLines

DELIMITERS = {"csv": ",", "tsv": "\t"}
_TAB = "\t"
_QUOTE = '"'
_GUESSED = (",", ";", _TAB, "|")
_LINES_COMPARED = 20
# Excel writes the delimiter in a line before the header.
_DELIMITER_LINE = "sep="


class TableForm(NamedTuple):
    """Delimiter and quoting of a table.

    Args:
        delimiter: Character between the cells.
        quoting: How a quote is written in a quoted cell, one of `QUOTING`; None if a cell is quoted only if a quote
            begins and ends it.
        has_delimiter_line: Whether the first line names the delimiter.
    """

    delimiter: str
    quoting: str | None
    has_delimiter_line: bool


def find_form(lines: TextLines, format: str, options: ReadingOptions) -> TableForm:
    """Return the form of a table.

    Args:
        lines: The lines of the table.
        format: ``"csv"`` or ``"tsv"``.
        options: What is known about its form.

    Raises:
        ValueError: If several delimiters fit the first rows, and the format's delimiter does not.
    """
    first = list(islice(_readable_lines(lines), _LINES_COMPARED))
    marker = first[0].strip() if first else ""
    has_marker = marker.startswith(_DELIMITER_LINE) and len(marker) == len(_DELIMITER_LINE) + 1
    delimiter = options.delimiter
    if delimiter is None and has_marker:
        delimiter = marker[-1]
    if delimiter is None:
        delimiter = _guess_delimiter(lines.path, first, DELIMITERS[format])
    # Programs that write tabs rarely quote, and texts contain quotes.
    quoting = options.quoting or (None if delimiter == _TAB else DOUBLE)
    return TableForm(delimiter, quoting, has_marker)


def fitting_delimiters(lines: TextLines) -> dict[str, int]:
    """Return the delimiters that separate each of the first lines into as many cells, with the number of cells."""
    first = list(islice(_readable_lines(lines), _LINES_COMPARED))
    widths = {delimiter: _width(first, delimiter) for delimiter in _GUESSED}
    return {delimiter: width for delimiter, width in widths.items() if width > 1}


def dialect(form: TableForm) -> dict[str, object]:
    """Return the arguments of ``csv.reader`` for a table."""
    escapes = form.quoting == BACKSLASH
    return {
        "delimiter": form.delimiter,
        "doublequote": not escapes,
        "escapechar": "\\" if escapes else None,
        "strict": True,
    }


def split_line(line: str, form: TableForm, width: int) -> list[str]:
    """Split a line of a table in which a cell is quoted only if a quote begins and ends it.

    Args:
        line: The line, without its end.
        form: The form of the table.
        width: Number of cells that are expected; 0 if unknown.
    """
    cells = line.split(form.delimiter)
    if _QUOTE not in line or form.quoting == NO_QUOTING:
        return cells
    if len(cells) != width and (quoted := parse_quoted(line, form)) is not None and len(quoted) == width:
        return quoted  # a delimiter in a quoted cell
    return [_unquoted(cell) for cell in cells]


def parse_quoted(text: str, form: TableForm) -> list[str] | None:
    """Split a record whose quoted cells may contain delimiters and line ends; None if its quotes are not valid."""
    try:
        (cells,) = csv.reader(io.StringIO(text), delimiter=form.delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return cells


def is_open(line: str, form: TableForm) -> bool:
    """Return whether the last cell of a line begins with a quote and does not end with one."""
    last = line.rsplit(form.delimiter, 1)[-1]
    return form.quoting is None and last.startswith(_QUOTE) and line.count(_QUOTE) % 2 == 1


def _unquoted(cell: str) -> str:
    if len(cell) < 2 or not (cell[0] == cell[-1] == _QUOTE):
        return cell
    inner = cell[1:-1]
    return cell if _QUOTE in inner.replace('""', "") else inner.replace('""', _QUOTE)


def _readable_lines(lines: TextLines) -> Iterator[str]:
    """Yield the lines that can be decoded; the others are refused when they are read."""
    for number, line in lines:
        try:
            text = lines.decode(number, line)
        except ValueError:
            continue
        if text.strip("\r\n"):
            yield text


def _guess_delimiter(path: Path, lines: Sequence[str], usual: str) -> str:
    """Return the usual delimiter if it separates something, else the only one that separates each line alike."""
    widths = {delimiter: _width(lines, delimiter) for delimiter in _GUESSED}
    fitting = [delimiter for delimiter, width in widths.items() if width > 1]
    header = lines[0] if lines else ""
    if usual in fitting or not fitting:
        return usual
    if usual in header and len(_cells([header], usual)[0]) > 1:
        return usual  # broken rows, which are named when they are read
    if len(fitting) > 1:
        names = " or ".join(map(repr, fitting))
        raise ValueError(f"{path}:1: the delimiter may be {names}; give `delimiter`.")
    log_guess(f"{path}: the cells are separated by {fitting[0]!r} (`delimiter: {fitting[0]!r}`).")
    return fitting[0]


def _width(lines: Sequence[str], delimiter: str) -> int:
    """Return the number of cells of each line; 0 if lines differ."""
    rows = _cells(lines, delimiter)
    # The last line may begin a cell that ends after it.
    rows = rows[:-1] if len(lines) == _LINES_COMPARED and len(rows) > 1 else rows
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []
