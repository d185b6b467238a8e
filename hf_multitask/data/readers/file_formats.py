"""Formats of files of rows, and their readers."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import datasets

from ...models.messages import unknown_name_message
from .annotation_files import read_annotations
from .annotation_tools import ANNOTATION_TOOLS
from .cell_rows import ROW_COLUMN, CellReader
from .conll import CONLLU, read_conll
from .excel_files import EXCEL, ExcelReader
from .file_reader import Columns, FileReader, SequentialReader
from .json_files import TextReader, json_reader
from .parquet_files import BRAT_HINT, PARQUET, ParquetReader, load_folder, parquet_features, read_folder
from .reading_options import ReadingOptions
from .rows import LocatedRow, rename_columns
from .table_form import DELIMITERS
from .tables import TableReader, read_words

# Rows of cells, with a header or without.
TABLES = (*DELIMITERS, EXCEL)
FORMATS = ("jsonl", "json", *TABLES, PARQUET, *ANNOTATION_TOOLS, "conll", CONLLU)
# One text per line: rows to predict, but not to train on, since they have no labels.
TEXT_FORMAT = "text"

_EXTENSIONS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": EXCEL,
    ".xlsm": EXCEL,
    ".parquet": PARQUET,
    ".conll": "conll",
    ".conllu": CONLLU,
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
_SAVE_TABLE = "Save the table as .xlsx or CSV in the program that opens it, and use that file."
# Formats that are not read, and what to write instead.
_OTHER_FORMATS = {
    ".spacy": " A DocBin of spaCy is not read; write each document as a JSON line, "
    '`{"text": doc.text, "spans": [[e.start_char, e.end_char, e.label_] for e in doc.ents]}`.',
    ".ann": f" {BRAT_HINT}",
}
# Files of other programs, which no format reads.
_UNREADABLE = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers", ".gsheet"), _SAVE_TABLE),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf"), f"Copy the texts into a table. {_SAVE_TABLE}"),
}
_TEXT_EXTENSIONS = {".txt": TEXT_FORMAT}


def open_file(
    path: str | Path,
    format: str | None = None,
    columns: Columns | None = None,
    options: ReadingOptions | None = None,
) -> Iterator[LocatedRow]:
    """Read the rows of a file lazily.

    Args:
        path: The file; text files may be compressed with gzip (``.gz``). Or a folder written by ``save_to_disk``.
        format: One of `FORMATS`. Defaults to the format of the file's extension.
        columns: By the library's name of a column (``text``, ``text_pair``, ``tokens``, a task's column), its name in
            the file, or in a CoNLL file its number, from 0. For tables with a word per line, ``row`` is the
            column that tells rows apart.
        options: Form of a text file. What it leaves open is guessed.

    Returns:
        The rows, with their lines and the lines of their words. The file is opened when the first row is taken.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the format is unknown; while iterating, if the file is not in its format. The message names
            file and line.
    """
    path = Path(path)
    reader = file_reader(path, None if path.is_dir() else find_format(path, format), columns, options)
    return rename_columns(reader.rows(), reader.columns, str(path))


def file_reader(
    path: Path, format: str | None, columns: Columns | None, options: ReadingOptions | None = None
) -> FileReader:
    """Return the reader of a file.

    Args:
        path: The file or folder; see `open_file`.
        format: One of `FORMATS`, or `TEXT_FORMAT`. Ignored for a folder.
        columns: See `open_file`.
        options: See `open_file`.
    """
    columns, options = columns or {}, options or ReadingOptions()
    if path.is_dir():
        return SequentialReader(path, columns, read_folder)
    if format in TABLES:
        has_word_per_line = ROW_COLUMN in columns
        table: CellReader = (
            ExcelReader(path, columns, options, has_word_per_line)
            if format == EXCEL
            else TableReader(path, columns, format, options, has_word_per_line)
        )
        if not has_word_per_line:
            return table
        return SequentialReader(path, None, partial(read_words, columns=columns, table=table))
    if format in ("conll", CONLLU):
        read_columns = partial(read_conll, columns=columns, options=options, is_conllu=format == CONLLU)
        return SequentialReader(path, None, read_columns)
    if format in ANNOTATION_TOOLS:
        read = partial(read_annotations, tool=format, columns=columns, encoding=options.encoding)
        return SequentialReader(path, columns, read)
    if format in ("jsonl", "json"):
        return json_reader(path, columns, format, options.encoding)
    if format == PARQUET:
        return ParquetReader(path, columns)
    return TextReader(path, columns, options.encoding)


def find_format(path: Path, format: str | None, allow_text: bool = False) -> str:
    """Return the format of a file.

    Args:
        path: The file.
        format: The format, if given. Defaults to the format of the file's extension.
        allow_text: Whether `TEXT_FORMAT` is allowed, besides `FORMATS`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the format is unknown.
    """
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{path}: there is no such file; {unknown_name_message('file', path.name, siblings)}")
    allowed = (*FORMATS, TEXT_FORMAT) if allow_text else FORMATS
    extension = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    extensions = _EXTENSIONS | (_TEXT_EXTENSIONS if allow_text else {})
    format = format or extensions.get(extension.lower())
    if format is None and (instead := _UNREADABLE.get(extension.lower())):
        raise ValueError(f"{path}: {extension} files are not read. {instead}")
    if format is None:
        hint = _OTHER_FORMATS.get(extension.lower(), "")
        raise ValueError(f"{path}: unknown extension {extension!r}; give `format`: {', '.join(allowed)}.{hint}")
    if format not in allowed:
        raise ValueError(f"{path}: {unknown_name_message('format', format, allowed)}")
    return format


def file_features(path: str | Path, format: str | None = None) -> datasets.Features | None:
    """Return the features that a file declares.

    Args:
        path: The file or folder.
        format: See `open_file`.

    Returns:
        The features of a Parquet file or a folder of ``save_to_disk``; None for other formats.
    """
    path = Path(path)
    if path.is_dir():
        return load_folder(path).features
    if (format or _EXTENSIONS.get(path.suffix.lower())) == PARQUET:
        return parquet_features(path)
    return None
