"""CoNLL files: columns of words and tags, with a word per line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...models.text_inputs import TOKENS_COLUMN
from .file_reader import Columns
from .rows import LocatedRow
from .text_lines import read_lines, shorten

DOCUMENT_START = "-DOCSTART-"
_COMMENT = "#"


def read_conll(path: Path, columns: Columns) -> Iterator[LocatedRow]:
    """Read columns of words and tags, with a blank line after each row.

    Args:
        path: The file.
        columns: By the library's name of a column, its number in the file, from 0.

    Yields:
        The rows, with their lines and the lines of their words.

    Raises:
        ValueError: If ``columns`` contains no ``tokens`` or a value that is not a number, or if a line has too few
            columns. The message names the line.
    """
    numbers = _checked_numbers(path, columns)
    has_tabs, num_columns = _column_form(path)
    current: LocatedRow | None = None
    for number, line in read_lines(path):
        line = line.rstrip("\r\n")
        cells = _cells(line, has_tabs)
        if not line.strip(" \t") or cells[0] == DOCUMENT_START:
            if current is not None:
                yield current
            current = None
            continue
        if line.startswith(_COMMENT) and len(cells) != num_columns:
            continue
        if len(cells) <= max(numbers.values()):
            found = f"expected at least {max(numbers.values()) + 1} columns, found {len(cells)}: {shorten(line)}"
            raise ValueError(f"{path}:{number}: {found}.")
        if current is None:
            current = LocatedRow({name: [] for name in numbers}, number, [])
        current.word_lines.append(number)
        for name, column in numbers.items():
            current.row[name].append(cells[column])
    if current is not None:
        yield current


def _column_form(path: Path) -> tuple[bool, int]:
    """Return whether tabs separate the columns, and the number of columns.

    The number tells comments from words: both may start with a hash.
    """
    for _, line in read_lines(path):
        line = line.rstrip("\r\n")
        if line.strip(" \t") and not line.startswith((_COMMENT, DOCUMENT_START)):
            has_tabs = "\t" in line
            return has_tabs, len(_cells(line, has_tabs))
    return False, 0


def _cells(line: str, has_tabs: bool) -> list[str]:
    return line.split("\t") if has_tabs else re.split("[ \t]+", line.strip(" \t"))


def _checked_numbers(path: Path, columns: Columns) -> Mapping[str, int]:
    if TOKENS_COLUMN not in columns:
        first = next((line.rstrip("\r\n") for _, line in read_lines(path) if line.strip()), "")
        raise ValueError(
            f"{path}: a CoNLL file needs `columns`, such as {{tokens: 0, ner: 1}}; its first line is {shorten(first)}."
        )
    for name, column in columns.items():
        if not isinstance(column, int) or isinstance(column, bool) or column < 0:
            raise ValueError(f"{path}: columns.{name}: expected the number of a column, from 0, found {column!r}.")
    return {name: int(column) for name, column in columns.items()}
