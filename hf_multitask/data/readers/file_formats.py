"""Files of rows, in the forms that labels come in; each is read one row after the other."""

import csv
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from pyarrow import parquet

from ...models.messages import unknown_name_message
from ...models.text_inputs import TOKENS_COLUMN
from ...models.type_aliases import Row
from .annotation_tools import ANNOTATION_TOOLS
from .conll import read_conll
from .rows import LocatedRow, dataset_rows, rename_columns, unplaced, with_label_names
from .text_lines import read_lines, shorten

logger = logging.getLogger(__name__)

# What a config's `columns` says: our name of a column, and its name or number in the file.
Columns = Mapping[str, str | int]
# A column of a file with a word a line that tells which row the word belongs to.
ROW_COLUMN = "row"
DELIMITERS = {"csv": ",", "tsv": "\t"}
LONGEST_CELL = 2**31 - 1
_ROWS_AT_ONCE = 1000

_EXTENSIONS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}


def open_file(path: str | Path, format: str | None = None, columns: Columns | None = None) -> Iterator[LocatedRow]:
    """Read the rows of a file one after the other.

    Args:
        path: The file; text files may be packed with gzip (``.gz``). Or a folder that ``save_to_disk`` has written.
        format: One of `FORMATS`; by the file's extension where None.
        columns: By our name of a column (``text``, ``text_pair``, ``tokens``, a task's column), its name in the file;
            its number, from 0, in a CoNLL file. In CSV and TSV with a word a line, ``row`` is the column that tells
            the rows apart.

    Returns:
        The rows, with the lines that they and their words stand on. The file is opened when the first is taken.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file's form is not known; while rows are taken, if it is not in that form. The message
            names file and line.
    """
    path = Path(path)
    if path.is_dir():
        return rename_columns(_read_folder(path), columns, str(path))
    format = find_format(path, format)
    if format == CONLL:
        return read_conll(path, columns or {})
    rows = _READERS[format](path, format)
    if format in DELIMITERS and ROW_COLUMN in (columns or {}):
        return _words_to_rows(path, rows, dict(columns or {}))
    return rename_columns(rows, columns, str(path))


def find_format(path: Path, format: str | None, others: Mapping[str, str] | None = None) -> str:
    """Return the format of a file.

    Args:
        path: The file.
        format: What it is said to be; its extension says it where None.
        others: Formats by extension that the caller reads beside `FORMATS`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is not known.
    """
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{path}: there is no such file; {unknown_name_message('file', path.name, siblings)}")
    known = (*FORMATS, *(others or {}).values())
    extension = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    format = format or {**_EXTENSIONS, **(others or {})}.get(extension.lower())
    if format is None:
        raise ValueError(f"{path}: the extension {extension!r} tells no format; give `format`: {', '.join(known)}.")
    if format not in known:
        raise ValueError(f"{path}: {unknown_name_message('format', format, known)}")
    return format


def file_features(path: str | Path, format: str | None = None) -> datasets.Features | None:
    """Return what the columns of a file hold, where it says so: of Parquet files and folders of ``save_to_disk``.

    Args:
        path: The file or folder.
        format: See `open_file`.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path).features
    if (format or _EXTENSIONS.get(path.suffix.lower())) == "parquet":
        return open_parquet(path)[1]
    return None


def _read_jsonl(path: Path, format: str) -> Iterator[LocatedRow]:
    for number, line in read_lines(path):
        if line.strip():
            yield LocatedRow(parse_object(path, number, line), number, [])


def parse_object(path: Path, number: int, line: str) -> Row:
    """Read the JSON object of a line.

    Args:
        path: The file, for messages.
        number: Number of the line, from 1.
        line: The line.

    Raises:
        ValueError: If it holds something else. The message names file and line.
    """
    record = _parse_json(path, number, line)
    if not isinstance(record, dict):
        raise ValueError(f"{path}:{number}: expected a JSON object, found {shorten(json.dumps(record))}.")
    return record


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in read_lines(path):
        if line.strip():
            yield number, _parse_json(path, number, line)


def _parse_json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # also of numbers too long and lists too deep
        reason = getattr(error, "msg", error)
        raise ValueError(f"{path}:{number}: expected a JSON object, found {shorten(line)} ({reason}).") from error


def _read_json(path: Path, format: str) -> Iterator[LocatedRow]:
    values = _load_json(path)
    if not all(isinstance(row, dict) for row in values):
        raise ValueError(f"{path}: expected a list of JSON objects; one a line is `jsonl`.")
    yield from map(unplaced, values)


def _read_annotations(path: Path, format: str) -> Iterator[LocatedRow]:
    """Read the export of an annotation tool: a record a line, or a list of them in a ``.json`` file."""
    is_list = path.name.removesuffix(".gz").endswith(".json")
    records: Iterator[tuple[int | None, Any]] = (
        ((None, record) for record in _load_json(path)) if is_list else _json_lines(path)
    )
    left_out = 0
    for i, (line, record) in enumerate(records):
        row = ANNOTATION_TOOLS[format](record, f"{path}, record {i}" if line is None else f"{path}:{line}")
        if row is None:
            left_out += 1
        else:
            yield LocatedRow(row, line, [])
    if left_out:
        logger.warning("%s: %d records that the annotator rejected or skipped are left out.", path, left_out)


def _load_json(path: Path) -> list[Any]:
    text = "".join(line for _, line in read_lines(path))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error}).") from error
    if not isinstance(values, list):
        raise ValueError(f"{path}: expected a list of JSON objects, found {shorten(text)}. One a line is `jsonl`.")
    return values


def _read_table(path: Path, format: str) -> Iterator[LocatedRow]:
    """Read a table with a header; an empty cell is a missing value."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader((line for _, line in read_lines(path)), delimiter=DELIMITERS[format], strict=True)
    header = None
    # A cell may go over several lines: the row is named by its first.
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = checked_header(path, cells)
            else:
                yield LocatedRow(table_row(path, number, header, cells), number, [])
    except csv.Error as error:
        raise ValueError(f"{path}:{start}: {error}.") from error


def table_row(path: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    """Make a row of the cells of a table; an empty cell is a missing value.

    Args:
        path: The file, for messages.
        number: The line that the cells begin on.
        header: Names of the columns.
        cells: The cells.

    Raises:
        ValueError: If there are not as many as names. The message names file and line.
    """
    if len(cells) != len(header):
        found = f"expected {len(header)} cells ({', '.join(header)}), found {len(cells)}"
        raise ValueError(f"{path}:{number}: {found}.")
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def checked_header(path: Path, cells: Sequence[str]) -> list[str]:
    """Return the names of a table's columns.

    Args:
        path: The file, for messages.
        cells: The cells of its first line.

    Raises:
        ValueError: If a name occurs twice.
    """
    header = [cell.strip() for cell in cells]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}:1: the header names {', '.join(map(repr, twice))} more than once.")
    return header


def _words_to_rows(path: Path, words: Iterator[LocatedRow], columns: dict[str, Any]) -> Iterator[LocatedRow]:
    """Put the words of a table with a word a line together; an empty cell means the row of the word before."""
    row_column = columns.pop(ROW_COLUMN)
    opened: LocatedRow | None = None
    current = None
    for word, line, _ in words:
        for ours, theirs in {ROW_COLUMN: row_column, **columns}.items():
            if theirs not in word:
                raise ValueError(f"{path}: columns.{ours}: {unknown_name_message('column', theirs, word)}")
        found = word[row_column]
        if opened is None or (found is not None and found != current):
            if opened is not None:
                yield opened
            current = found
            opened = LocatedRow({name: [] for name in columns}, line, [])
        if word[columns[TOKENS_COLUMN]] is None:
            raise ValueError(f"{path}:{line}: the word is missing.")
        opened.word_lines.append(int(line or 0))
        for name, theirs in columns.items():
            opened.row[name].append(word[theirs])
    if opened is not None:
        yield opened


def _read_parquet(path: Path, format: str) -> Iterator[LocatedRow]:
    file, features = open_parquet(path)
    try:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from map(unplaced, with_label_names(batch.to_pylist(), features))
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: expected a whole Parquet file. {error}") from error


def open_parquet(path: Path) -> tuple[parquet.ParquetFile, datasets.Features]:
    """Open a Parquet file.

    Args:
        path: The file.

    Returns:
        The file, and what its columns hold.

    Raises:
        ValueError: If it is no whole Parquet file.
    """
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: expected a whole Parquet file. {error}") from error
    return file, datasets.Features.from_arrow_schema(file.schema_arrow)


def _read_folder(path: Path) -> Iterator[LocatedRow]:
    return map(unplaced, dataset_rows(_load_folder(path)))


def _load_folder(path: Path) -> datasets.Dataset:
    try:
        dataset = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a file, or a folder written by save_to_disk. {error}") from error
    if isinstance(dataset, datasets.DatasetDict):
        raise ValueError(
            f"{path}: holds the splits {', '.join(dataset)}; name one, such as {path / next(iter(dataset))}."
        )
    return dataset


_READERS: dict[str, Callable[[Path, str], Iterator[LocatedRow]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_table,
    "tsv": _read_table,
    "parquet": _read_parquet,
    **dict.fromkeys(ANNOTATION_TOOLS, _read_annotations),
}
CONLL = "conll"
FORMATS = (*_READERS, CONLL)
