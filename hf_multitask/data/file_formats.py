"""Files of rows, in the forms that labels come in."""

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

import datasets

from ..models.names import unknown_name
from .rows import TOKENS_COLUMN, Row, Rows, with_label_names

# What a config's `columns` says: our name of a column, and its name or number in the file.
Columns = Mapping[str, str | int]
# A column of a file with a word a line that tells which row the word belongs to.
ROW_COLUMN = "row"
DOCUMENT_START = "-DOCSTART-"
_COMMENT = "#"
_LONGEST_CELL = 2**31 - 1

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


def read_file(path: str | Path, format: str | None = None, columns: Columns | None = None) -> Rows:
    """Read the rows of a file.

    Args:
        path: The file; text files may be packed with gzip (``.gz``). Or a folder that ``save_to_disk`` has written.
        format: ``"jsonl"``, ``"json"``, ``"csv"``, ``"tsv"``, ``"parquet"`` or ``"conll"``; by the file's extension
            where None.
        columns: By our name of a column (``text``, ``tokens``, a task's column), its name in the file; its number,
            from 0, in a CoNLL file. In CSV and TSV with a word a line, ``row`` is the column that tells the rows
            apart.

    Returns:
        The rows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file's form is not known, or it is not in that form. The message names file and line.
    """
    path = Path(path)
    if path.is_dir():
        return rename_columns(_read_folder(path), columns)
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{path}: there is no such file; {unknown_name('file', path.name, siblings)}")
    extension = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    format = format or _EXTENSIONS.get(extension.lower())
    if format is None:
        raise ValueError(f"{path}: the extension {extension!r} tells no format; give `format`: {', '.join(READERS)}.")
    if format not in READERS:
        raise ValueError(f"{path}: {unknown_name('format', format, READERS)}")
    return READERS[format](path, dict(columns or {}))


def _read_jsonl(path: Path, columns: Columns) -> Rows:
    rows = Rows(str(path), [])
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{number}: expected a JSON object, found {_shorten(line)} ({error.msg})."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object, found {_shorten(line)}.")
        rows.rows.append(row)
        rows.line_numbers.append(number)
    return rename_columns(rows, columns)


def _read_json(path: Path, columns: Columns) -> Rows:
    text = "".join(line for _, line in _lines(path))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected JSON ({error.msg}).") from error
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        raise ValueError(f"{path}: expected a list of JSON objects, found {_shorten(text)}. One a line is `jsonl`.")
    return rename_columns(Rows(str(path), values), columns)


def _read_csv(path: Path, columns: Columns) -> Rows:
    return _read_table(path, columns, ",")


def _read_tsv(path: Path, columns: Columns) -> Rows:
    return _read_table(path, columns, "\t")


def _read_table(path: Path, columns: Columns, delimiter: str) -> Rows:
    """Read a table with a header; an empty cell is a missing value."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    rows, header = Rows(str(path), []), None
    # A cell may go over several lines: the row is named by its first.
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _checked_header(path, cells)
            elif len(cells) != len(header):
                found = f"expected {len(header)} cells ({', '.join(header)}), found {len(cells)}"
                raise ValueError(f"{path}:{number}: {found}.")
            else:
                rows.rows.append({name: cell or None for name, cell in zip(header, cells, strict=True)})
                rows.line_numbers.append(number)
    except csv.Error as error:
        raise ValueError(f"{path}:{start}: {error}.") from error
    if ROW_COLUMN in columns:
        return _words_to_rows(rows, columns)
    return rename_columns(rows, columns)


def _checked_header(path: Path, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}:1: the header names {', '.join(map(repr, twice))} more than once.")
    return header


def _words_to_rows(words: Rows, columns: Columns) -> Rows:
    """Put the words of a table with a word a line together; an empty cell means the row of the word before."""
    renamed = rename_columns(words, columns)
    rows = Rows(words.source, [])
    current: str | None = None
    names = [name for name in columns if name != ROW_COLUMN]
    for i, word in enumerate(renamed.rows):
        found = word.get(ROW_COLUMN)
        if not rows.rows or (found is not None and found != current):
            current = found
            rows.rows.append({name: [] for name in names})
            rows.line_numbers.append(words.line_numbers[i])
            rows.word_lines.append([])
        if word.get(TOKENS_COLUMN) is None:
            raise ValueError(f"{words.place(i)}: the word is missing.")
        rows.word_lines[-1].append(words.line_numbers[i])
        for name in names:
            rows.rows[-1][name].append(word.get(name))
    return rows


def _read_conll(path: Path, columns: Columns) -> Rows:
    """Read columns of words and tags, a blank line behind each row."""
    numbers = _checked_numbers(path, columns)
    tabs, width = _column_form(path)
    rows = Rows(str(path), [])
    is_open = False
    for number, line in _lines(path):
        line = line.rstrip("\r\n")
        cells = _cells(line, tabs)
        if not line.strip(" \t") or cells[0] == DOCUMENT_START:
            is_open = False
            continue
        if line.startswith(_COMMENT) and len(cells) != width:
            continue
        if len(cells) <= max(numbers.values()):
            found = f"expected at least {max(numbers.values()) + 1} columns, found {len(cells)}: {_shorten(line)}"
            raise ValueError(f"{path}:{number}: {found}.")
        if not is_open:
            is_open = True
            rows.rows.append({name: [] for name in numbers})
            rows.line_numbers.append(number)
            rows.word_lines.append([])
        rows.word_lines[-1].append(number)
        for name, column in numbers.items():
            rows.rows[-1][name].append(cells[column])
    return rows


def _column_form(path: Path) -> tuple[bool, int]:
    """Tell whether tabs part the columns of a file, and how many there are; a hash may be a word or a comment."""
    for _, line in _lines(path):
        line = line.rstrip("\r\n")
        if line.strip(" \t") and not line.startswith((_COMMENT, DOCUMENT_START)):
            tabs = "\t" in line
            return tabs, len(_cells(line, tabs))
    return False, 0


def _cells(line: str, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else re.split("[ \t]+", line.strip(" \t"))


def _checked_numbers(path: Path, columns: Columns) -> dict[str, int]:
    if TOKENS_COLUMN not in columns:
        first = next((line.rstrip("\r\n") for _, line in _lines(path) if line.strip()), "")
        raise ValueError(
            f"{path}: a CoNLL file needs `columns`, such as {{tokens: 0, ner: 1}}; its first line is "
            f"{_shorten(first)}."
        )
    for name, column in columns.items():
        if not isinstance(column, int) or isinstance(column, bool) or column < 0:
            raise ValueError(f"{path}: columns.{name}: expected the number of a column, from 0, found {column!r}.")
    return {name: int(column) for name, column in columns.items()}


def _read_parquet(path: Path, columns: Columns) -> Rows:
    try:
        dataset = datasets.Dataset.from_parquet(str(path))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{path}: expected a Parquet file. {error}") from error
    return rename_columns(Rows(str(path), with_label_names(dataset).to_list()), columns)


def _read_folder(path: Path) -> Rows:
    try:
        dataset = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a file, or a folder written by save_to_disk. {error}") from error
    if isinstance(dataset, datasets.DatasetDict):
        raise ValueError(
            f"{path}: holds the splits {', '.join(dataset)}; name one, such as {path / next(iter(dataset))}."
        )
    return Rows(str(path), with_label_names(dataset).to_list())


READERS: dict[str, Callable[[Path, Columns], Rows]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "conll": _read_conll,
}


def rename_columns(rows: Rows, columns: Columns | None) -> Rows:
    """Give columns our names.

    Args:
        rows: The rows.
        columns: By our name of a column, its name in the rows.

    Returns:
        The rows, with the same places.

    Raises:
        ValueError: If there is no such column. The message names those that there are.
    """
    found = rows.columns
    for ours, theirs in (columns or {}).items():
        if theirs not in found:
            raise ValueError(f"{rows.source}: columns.{ours}: {unknown_name('column', theirs, found)}")
    ours_of = {theirs: ours for ours, theirs in (columns or {}).items()}
    if not ours_of:
        return rows
    renamed: list[Row] = [{ours_of.get(name, name): value for name, value in row.items()} for row in rows.rows]
    return Rows(rows.source, renamed, rows.line_numbers, rows.word_lines)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers; only a line feed ends a line."""
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, _decode(path, number, line)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: expected a whole gzip file. {error}") from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}:{number}: expected UTF-8, found the byte 0x{line[error.start]:02x} at position {error.start} of "
            "the line."
        ) from error


def _shorten(line: str, length: int = 60) -> str:
    line = line.strip()
    return repr(line if len(line) <= length else line[:length] + "…")
