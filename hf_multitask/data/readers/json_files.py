"""JSON files: an object per line or a list of objects, also as annotation tools export them."""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...models.text_inputs import TEXT_COLUMN
from .annotation_tools import ANNOTATION_TOOLS
from .file_reader import Columns, FileReader, RawRow
from .rows import LocatedRow, unplaced
from .text_lines import TextLines, decode_line, read_lines, shorten

logger = logging.getLogger(__name__)


class TextReader(FileReader[bytes]):
    """Plain text, with one text per line."""

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        super().__init__(path, columns)
        self._lines = TextLines(path)

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
        text = decode_line(self.path, number, content).rstrip("\r\n")
        return (LocatedRow({TEXT_COLUMN: text}, number, []),)


class JsonLinesReader(TextReader):
    """One JSON object per line."""

    def parse(self, number: int, content: bytes) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        line = decode_line(self.path, number, content)
        if not line.strip():
            return ()
        record = _parse_line(self.path, number, line)
        if not isinstance(record, dict):
            found = shorten(json.dumps(record))
            raise ValueError(f"{self.path}:{number}: expected a JSON object, found {found}.")
        return (LocatedRow(record, number, []),)


def read_json(path: Path) -> Iterator[LocatedRow]:
    """Yield the rows of a list of JSON objects.

    Raises:
        ValueError: If the file contains anything else.
    """
    values = _load_list(path)
    if not all(isinstance(row, dict) for row in values):
        raise ValueError(f"{path}: expected a list of JSON objects; one per line is `jsonl`.")
    yield from map(unplaced, values)


def read_annotations(path: Path, tool: str) -> Iterator[LocatedRow]:
    """Yield the rows of an annotation tool's export: one record per line, or a list of records in a ``.json`` file.

    Args:
        path: The file.
        tool: One of `ANNOTATION_TOOLS`.

    Raises:
        ValueError: If the file is not JSON, or a record does not have the form of the tool. The message names the
            file, and the line or the record.
    """
    is_list = path.name.removesuffix(".gz").endswith(".json")
    num_omitted = 0
    for i, (line, record) in enumerate(_list_records(path) if is_list else _line_records(path)):
        row = ANNOTATION_TOOLS[tool](record, f"{path}, record {i}" if line is None else f"{path}:{line}")
        if row is None:
            num_omitted += 1
        else:
            yield LocatedRow(row, line, [])
    if num_omitted:
        logger.warning("%s: %d records that the annotator rejected or skipped are left out.", path, num_omitted)


def _list_records(path: Path) -> Iterator[tuple[int | None, object]]:
    for record in _load_list(path):
        yield None, record


def _line_records(path: Path) -> Iterator[tuple[int | None, object]]:
    for number, line in read_lines(path):
        if line.strip():
            yield number, _parse_line(path, number, line)


def _load_list(path: Path) -> list[Any]:
    text = "".join(line for _, line in read_lines(path))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error}).") from error
    if not isinstance(values, list):
        raise ValueError(f"{path}: expected a list of JSON objects, found {shorten(text)}. One per line is `jsonl`.")
    return values


def _parse_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # also raised for very long numbers and deep nesting
        reason = getattr(error, "msg", error)
        raise ValueError(f"{path}:{number}: expected a JSON object, found {shorten(line)} ({reason}).") from error
