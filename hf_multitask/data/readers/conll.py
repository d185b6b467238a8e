"""CoNLL files: columns of words and tags, a word a line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...models.text_inputs import TOKENS_COLUMN
from .rows import LocatedRow
from .text_lines import read_lines, shorten

DOCUMENT_START = "-DOCSTART-"
_COMMENT = "#"


def read_conll(path: Path, columns: Mapping[str, str | int]) -> Iterator[LocatedRow]:
    """Read columns of words and tags, a blank line behind each row.

    Args:
        path: The file.
        columns: By our name of a column, its number in the file, from 0.

    Returns:
        The rows, with the lines that they and their words stand on.

    Raises:
        ValueError: If ``columns`` names no ``tokens`` or something else than numbers; while rows are taken, if a line
            has too few columns. The message names the line.
    """
    return _rows(path, _checked_numbers(path, columns))


def _rows(path: Path, numbers: Mapping[str, int]) -> Iterator[LocatedRow]:
    tabs, width = _column_form(path)
    opened: LocatedRow | None = None
    for number, line in read_lines(path):
        line = line.rstrip("\r\n")
        cells = _cells(line, tabs)
        if not line.strip(" \t") or cells[0] == DOCUMENT_START:
            if opened is not None:
                yield opened
            opened = None
            continue
        if line.startswith(_COMMENT) and len(cells) != width:
            continue
        if len(cells) <= max(numbers.values()):
            found = f"expected at least {max(numbers.values()) + 1} columns, found {len(cells)}: {shorten(line)}"
            raise ValueError(f"{path}:{number}: {found}.")
        if opened is None:
            opened = LocatedRow({name: [] for name in numbers}, number, [])
        opened.word_lines.append(number)
        for name, column in numbers.items():
            opened.row[name].append(cells[column])
    if opened is not None:
        yield opened


def _column_form(path: Path) -> tuple[bool, int]:
    """Tell whether tabs part the columns of a file, and how many there are; a hash may be a word or a comment."""
    for _, line in read_lines(path):
        line = line.rstrip("\r\n")
        if line.strip(" \t") and not line.startswith((_COMMENT, DOCUMENT_START)):
            tabs = "\t" in line
            return tabs, len(_cells(line, tabs))
    return False, 0


def _cells(line: str, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else re.split("[ \t]+", line.strip(" \t"))


def _checked_numbers(path: Path, columns: Mapping[str, str | int]) -> dict[str, int]:
    if TOKENS_COLUMN not in columns:
        first = next((line.rstrip("\r\n") for _, line in read_lines(path) if line.strip()), "")
        raise ValueError(
            f"{path}: a CoNLL file needs `columns`, such as {{tokens: 0, ner: 1}}; its first line is {shorten(first)}."
        )
    for name, column in columns.items():
        if not isinstance(column, int) or isinstance(column, bool) or column < 0:
            raise ValueError(f"{path}: columns.{name}: expected the number of a column, from 0, found {column!r}.")
    return {name: int(column) for name, column in columns.items()}
