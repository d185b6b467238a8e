"""Files of annotation tools: one record per line, or a list of records."""

import logging
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from ...models.text_inputs import TEXT_COLUMN
from ...models.type_aliases import Row
from .annotation_tools import (
    ANNOTATION_TOOLS,
    LABEL_STUDIO,
    PRODIGY,
    SPACY,
    SPANS_COLUMN,
    binary_label,
    label_studio,
    prodigy,
)
from .file_reader import Columns
from .json_files import is_document, load_list, parse_lines
from .rows import BrokenRow, LocatedRow

logger = logging.getLogger(__name__)


def read_annotations(
    path: Path, tool: str, columns: Columns, encoding: str | None = None
) -> Iterator[LocatedRow | BrokenRow]:
    """Yield the rows of an annotation tool's export.

    Args:
        path: The file.
        tool: One of `ANNOTATION_TOOLS`.
        columns: By the library's name of a column, its name in the file. ``text`` is the field of the text.
        encoding: Encoding of the file.

    Yields:
        The rows; a broken one for each record that does not have the form of the tool.

    Raises:
        ValueError: If the file as a whole is not JSON. The message names the file.
    """
    is_list = is_document(path, encoding, path.name.removesuffix(".gz").endswith(".json"))
    read_record = _record_reader(path, tool, columns, encoding, is_list)
    num_omitted = num_bare = num_assumed = 0
    for i, (line, record) in enumerate(_records(path, tool, encoding, is_list)):
        place = f"{path}, record {i}" if line is None else f"{path}:{line}"
        try:
            if isinstance(record, ValueError):
                raise record
            row = None if record is None else read_record(record, place)
        except ValueError as error:
            yield BrokenRow(error, line)
            continue
        if row is None:
            num_omitted += 1
            continue
        num_bare += len(row) == 1
        num_assumed += row.get(SPANS_COLUMN) == [] and tool == PRODIGY and _has_no_spans(record)
        yield LocatedRow(row, line, [])
    if num_omitted:
        logger.warning("%s: %d records that the annotator rejected or skipped are left out.", path, num_omitted)
    if num_bare:
        logger.warning("%s: %d records have neither spans nor classes: they have no label.", path, num_bare)
    if num_assumed:
        logger.warning("%s: %d accepted records without 'spans' are texts without entities.", path, num_assumed)


def _has_no_spans(record: object) -> bool:
    return isinstance(record, dict) and record.get(SPANS_COLUMN) is None


def _record_reader(
    path: Path, tool: str, columns: Columns, encoding: str | None, is_list: bool
) -> Callable[[object, str], Row | None]:
    if tool == LABEL_STUDIO:
        field = columns.get(TEXT_COLUMN)
        return partial(label_studio, text_field=None if field is None else str(field))
    if tool == PRODIGY:

        @cache
        def find_binary_label() -> str | None:
            return binary_label(record for _, record in _records(path, tool, encoding, is_list))

        return partial(prodigy, find_binary_label=find_binary_label)
    return ANNOTATION_TOOLS[tool]


def _records(path: Path, tool: str, encoding: str | None, is_list: bool) -> Iterator[tuple[int | None, object]]:
    """Yield the line of each record, if it has one, and the record, or the error that it is not JSON."""
    if not is_list:
        yield from parse_lines(path, encoding)
        return
    for record in load_list(path, encoding, may_be_wrapped=tool == SPACY):
        yield None, record
