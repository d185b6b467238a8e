"""Guess of a file's form: format, encoding, delimiter, sheet, and whether line 1 names the columns."""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from ...models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..readers.excel_files import EXCEL, sheet_names
from ..readers.file_formats import TABLES, file_reader, find_format
from ..readers.parquet_files import PARQUET
from ..readers.reading_options import ReadingOptions
from ..readers.table_form import DELIMITERS, find_form, fitting_delimiters
from ..readers.text_lines import UTF_8, WINDOWS, TextLines

# Lines that are compared to tell a header from a row.
LINES_COMPARED = 200
# Every byte is a character of it.
_ANY_BYTES = "latin-1"
# Names of columns say what the cells are in a word or two.
_MAX_HEADER_WORDS = 4
_USUAL_NAMES = {
    *(TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN),
    *("sentence", "utterance", "comment", "message", "review", "question", "query", "title", "body", "content"),
    *("label", "labels", "intent", "category", "class", "topic", "sentiment", "rating", "score", "tag", "tags"),
    *("id", "index", "date", "name", "word", "ner", "pos", "entities", "spans"),
}
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")


@dataclass(frozen=True)
class FileForm:
    """Form of a file.

    Args:
        format: Format of the file.
        options: The form, with what was guessed; None stands for what the format does not leave open.
        first_lines: Cells of the first lines of a table, line 1 among them, whether it is a header or not.
        sheets: Names of the sheets of an Excel file.
        reasons: By field of ``options``, why it was guessed.
    """

    format: str
    options: ReadingOptions
    first_lines: list[list[str]] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def guess_form(path: str | Path, given: ReadingOptions | None = None, format: str | None = None) -> FileForm:
    """Guess the form of a file.

    Args:
        path: The file.
        given: What is known about the form, which is not guessed.
        format: Format of the file. Defaults to the format of its extension.

    Returns:
        The form.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the format is unknown, or the file is not in it.
    """
    path, options, reasons = Path(path), given or ReadingOptions(), {}
    format = find_format(path, format)
    sheets: list[str] = []
    if format == EXCEL:
        sheets = sheet_names(path)
        options = replace(options, sheet=options.sheet or sheets[0])
    elif format != PARQUET and options.encoding is None:
        encoding, reasons["encoding"] = _guess_encoding(path)
        options = replace(options, encoding=encoding)
    if format in DELIMITERS and options.delimiter is None:
        delimiter, reasons["delimiter"] = _guess_delimiter(path, format, options)
        options = replace(options, delimiter=delimiter)
    lines: list[list[str]] = []
    if format in TABLES:
        lines = _first_lines(path, format, options)
        if options.header is None:
            header, reasons["header"] = _guess_header(lines)
            options = replace(options, header=header)
    return FileForm(format, options, lines, sheets, reasons)


def _guess_encoding(path: Path) -> tuple[str, str]:
    encoding = TextLines(path).encoding
    if encoding != UTF_8:
        return encoding, "the byte order mark that the file begins with"
    decoders = {name: codecs.lookup(name).decode for name in (UTF_8, WINDOWS)}
    for number, line in TextLines(path, _ANY_BYTES):
        for name in list(decoders):
            try:
                decoders[name](line, "strict")
            except UnicodeDecodeError:
                del decoders[name]
                first_bad_line = number
                if not decoders:
                    return _ANY_BYTES, f"line {number} is neither UTF-8 nor {WINDOWS}"
    if UTF_8 in decoders:
        return UTF_8, "every line is valid UTF-8"
    return WINDOWS, f"line {first_bad_line} is not UTF-8; {WINDOWS} is what Windows programs write"


def _guess_delimiter(path: Path, format: str, options: ReadingOptions) -> tuple[str, str]:
    """Return the delimiter that makes the most cells, the same number in each line; a reader would not decide."""
    lines, usual = TextLines(path, options.encoding), DELIMITERS[format]
    widths = fitting_delimiters(lines)
    if not widths:
        return find_form(lines, format, options).delimiter, "no other separates the first lines into as many cells"
    best = max(widths, key=lambda delimiter: (widths[delimiter], delimiter == usual))
    return best, f"it separates each of the first lines into {widths[best]} cells"


def _first_lines(path: Path, format: str, options: ReadingOptions) -> list[list[str]]:
    """Return the cells of the first lines of a table. Lines that cannot be read are left out."""
    reader = file_reader(path, format, None, replace(options, header=False))
    lines = []
    for number, content in islice(reader.raw_rows(), LINES_COMPARED):
        try:
            located = list(reader.parse(number, content))
        except ValueError:
            continue
        lines += [["" if cell is None else str(cell) for cell in row.row.values()] for row in located]
    return lines


def _guess_header(lines: Sequence[Sequence[str]]) -> tuple[bool, str]:
    """Return whether line 1 names the columns, and why."""
    if not lines:
        return True, "the file has no lines"
    first, rows = [cell.strip() for cell in lines[0]], lines[1:]
    if usual := next((cell for cell in first if cell.casefold() in _USUAL_NAMES), None):
        return True, f"{usual!r} in line 1 is a usual name of a column"
    if number := next((cell for cell in first if _NUMBER.fullmatch(cell)), None):
        return False, f"{number!r} in line 1 is a number"
    if long := next((cell for cell in first if len(cell.split()) > _MAX_HEADER_WORDS), None):
        return False, f"{long[:40]!r} in line 1 is longer than a name"
    if len(set(first)) < len(first):
        return False, "a cell of line 1 occurs twice in it"
    for cell, column in zip(first, zip(*rows, strict=True), strict=True):
        if cell and cell in column:
            return False, f"{cell!r} in line 1 occurs again below it"
    return True, "the cells of line 1 are short and occur nowhere below"
