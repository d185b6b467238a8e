"""JSON files: an object per line or a list of objects; plain text."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN
from .file_reader import Columns, FileReader, RawRow, SequentialReader
from .reading_options import log_guess
from .rows import BrokenRow, LocatedRow, unplaced
from .text_lines import TextLines, read_lines, shorten

# An object with one of these is a single record, whose lists are its spans or annotations.
_KEYS_OF_RECORDS = {TEXT_COLUMN, TOKENS_COLUMN}


class TextReader(FileReader[bytes]):
    """Plain text, with one text per line."""

    def __init__(self, path: Path, columns: Columns | None = None, encoding: str | None = None) -> None:
        super().__init__(path, columns)
        self._lines = TextLines(path, encoding)

    @property
    def share(self) -> float:
        """See `FileReader.share`."""
        return self._lines.share

    def raw_rows(self) -> Iterator[RawRow[bytes]]:
        """See `FileReader.raw_rows`."""
        return iter(self._lines)

    def extent(self, content: bytes) -> tuple[int, int]:
        """See `FileReader.extent`."""
        return 1, len(content)

    def parse(self, number: int, content: bytes) -> Iterable[LocatedRow]:
        """See `FileReader.parse`. An empty line is an empty text."""
        text = self._lines.decode(number, content).rstrip("\r\n")
        return (LocatedRow({TEXT_COLUMN: text}, number, []),)


class JsonLinesReader(TextReader):
    """One JSON object per line."""

    def parse(self, number: int, content: bytes) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        line = self._lines.decode(number, content)
        if not line.strip():
            return ()
        record = _parse_line(self.path, number, line)
        if not isinstance(record, dict):
            found = shorten(json.dumps(record))
            raise ValueError(f"{self.path}:{number}: expected a JSON object, found {found}.")
        return (LocatedRow(record, number, []),)


def json_reader(path: Path, columns: Columns, format: str, encoding: str | None) -> FileReader:
    """Return the reader of JSON objects: one per line, or in a list, whichever the file contains.

    Args:
        path: The file.
        columns: See `FileReader`.
        format: ``"jsonl"`` or ``"json"``, which decides if the file does not.
        encoding: Encoding of the file.
    """
    if is_document(path, encoding, format == "json"):
        return SequentialReader(path, columns, partial(read_json, encoding=encoding))
    return JsonLinesReader(path, columns, encoding)


def read_json(path: Path, encoding: str | None = None) -> Iterator[LocatedRow | BrokenRow]:
    """Yield the rows of a list of JSON objects, and a broken one for each item that is something else.

    Raises:
        ValueError: If the file is not JSON, or not a list.
    """
    values = load_list(path, encoding, may_be_wrapped=True)
    for i, row in enumerate(values):
        if isinstance(row, dict):
            yield unplaced(row)
        else:
            found = shorten(json.dumps(row))
            yield BrokenRow(ValueError(f"{path}, row {i}: expected a JSON object, found {found}."), None)


def is_document(path: Path, encoding: str | None, expected: bool) -> bool:
    """Return whether a file is one JSON value, rather than one value per line.

    Args:
        path: The file.
        encoding: Encoding of the file.
        expected: What the name or format of the file says. The log names it if the file is otherwise.
    """
    try:
        lines = list(islice((line for _, line in read_lines(path, encoding) if line.strip()), 2))
    except ValueError:  # refused when the file is read
        return expected
    if not lines or (expected and len(lines) == 1):
        return expected
    value = _whole_value(lines[0])
    if expected:
        found = value is None
    elif value is None:
        found = lines[0].lstrip().startswith("[")
    else:
        # A record in a list on its own line begins with a text.
        found = isinstance(value, list) and not (value and isinstance(value[0], str))
    if found != expected:
        kind, format = ("a list of JSON values", "json") if found else ("one JSON value per line", "jsonl")
        log_guess(f"{path}: read as {kind}, which it is (`{format}`), whatever its name says.")
    return found


def load_list(path: Path, encoding: str | None, may_be_wrapped: bool = False) -> list[Any]:
    """Return the list in a JSON file.

    Args:
        path: The file.
        encoding: Encoding of the file.
        may_be_wrapped: Whether the list may be the only list of records in an object.

    Raises:
        ValueError: If the file is not JSON, or not a list.
    """
    text = "".join(line for _, line in read_lines(path, encoding))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error}).") from error
    if may_be_wrapped and isinstance(values, dict) and not values.keys() & _KEYS_OF_RECORDS:
        lists = [key for key, value in values.items() if _is_list_of_records(value)]
        if len(lists) == 1:
            log_guess(f"{path}: the records are read from the list {lists[0]!r} of the object.")
            return values[lists[0]]
    if not isinstance(values, list):
        raise ValueError(f"{path}: expected a list of JSON objects, found {shorten(text)}. One per line is `jsonl`.")
    return values


def parse_lines(path: Path, encoding: str | None) -> Iterator[tuple[int, object]]:
    """Yield the number and the JSON value of each line, or the error that it is none."""
    lines = TextLines(path, encoding)
    for number, raw in lines:
        try:
            line = lines.decode(number, raw)
            if line.strip():
                yield number, _parse_line(path, number, line)
        except ValueError as error:
            yield number, error


def _is_list_of_records(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, (dict, list, type(None))) for item in value)
    )


def _whole_value(line: str) -> object:
    """Return the JSON value of a line, or None."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parse_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # also raised for very long numbers and deep nesting
        reason = getattr(error, "msg", error)
        raise ValueError(f"{path}:{number}: expected a JSON object, found {shorten(line)} ({reason}).") from error
