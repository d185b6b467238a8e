"""Guess of a file: its form, its columns, and the config of the tasks and the data that follow from them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...models.messages import unknown_name_message
from ...models.tasks import (
    MULTI_LABEL,
    REGRESSION,
    SEQUENCE_CLASSIFICATION,
    SINGLE_LABEL,
    TOKEN_CLASSIFICATION,
    TaskConfig,
)
from ...models.type_aliases import JsonObject, Row
from ..readers.file_formats import TABLES, open_file
from ..readers.parquet_files import PARQUET
from ..readers.reading_options import ReadingOptions
from ..readers.table_form import DELIMITERS
from ..readers.text_lines import UTF_8
from .columns import INPUT_ROLES, LABEL, LABEL_ROLES, LABELS, NUMBER, ROLES, ColumnGuess, guess_columns
from .form import LINES_COMPARED, FileForm, guess_form

# Appended to the name of a column that no task can have, such as `test`.
_SUFFIX = "_label"
# Name of the task of a column that has only a number.
_UNNAMED = "label"
_OTHER = "other_"
_TYPES: dict[str, JsonObject] = {
    LABEL: {"type": SEQUENCE_CLASSIFICATION},
    LABELS: {"type": SEQUENCE_CLASSIFICATION, "problem_type": MULTI_LABEL},
    NUMBER: {"type": SEQUENCE_CLASSIFICATION, "problem_type": REGRESSION},
}


@dataclass(frozen=True)
class FileGuess:
    """What was understood of a file.

    Args:
        form: Form of the file.
        columns: What each column is.
        rows: The first rows.
    """

    form: FileForm
    columns: list[ColumnGuess]
    rows: list[Row]

    @property
    def tasks(self) -> list[JsonObject]:
        """The tasks in the form of a config, one for each column of labels."""
        columns = [column for column in self.columns if column.role in LABEL_ROLES]
        names = _task_names([column.name for column in columns])
        return [
            {"name": name, **self._task_type(column), **({} if name == column.name else {"column": column.name})}
            for name, column in zip(names, columns, strict=True)
        ]

    @property
    def data(self) -> JsonObject:
        """What the ``data`` of a config needs besides the files: columns, and a form that is not the usual one."""
        form, given = self.form, self.form.options
        usual = {"encoding": UTF_8, "delimiter": DELIMITERS.get(form.format), "header": True}
        if len(form.sheets) == 1:
            usual["sheet"] = form.sheets[0]
        found = {name: getattr(given, name) for name in ("delimiter", "encoding", "header", "sheet")}
        options = {name: value for name, value in found.items() if value not in (None, usual.get(name))}
        if columns := self._columns():
            options["columns"] = {role: _by_number(name, given.header) for role, name in columns.items()}
        if separators := {column.separator for column in self.columns if column.separator}:
            options["label_separator"] = min(separators)
        return options

    def _columns(self) -> dict[str, str]:
        """Return the columns to rename: by the library's name, the name in the file."""
        inputs = {column.role: column.name for column in self.columns if column.role in INPUT_ROLES}
        columns = {role: name for role, name in inputs.items() if role != name}
        # A column with the library's name that is not what the name says is moved out of the way.
        others = [column.name for column in self.columns if column.name in INPUT_ROLES and column.role != column.name]
        return columns | {f"{_OTHER}{name}": name for name in others}

    def _task_type(self, column: ColumnGuess) -> JsonObject:
        values = _TYPES.get(column.role, {"type": TOKEN_CLASSIFICATION})
        # Whole numbers with a decimal point may be quantities.
        is_float = any(isinstance(row.get(column.name), float) for row in self.rows)
        has_separator = any(other.separator for other in self.columns)
        if column.role == LABEL and (is_float or has_separator):
            return {**values, "problem_type": SINGLE_LABEL}
        return values


def guess_file(
    path: str | Path,
    options: ReadingOptions | None = None,
    roles: Mapping[str, str] | None = None,
    format: str | None = None,
) -> FileGuess:
    """Guess the form and the columns of a file.

    Args:
        path: The file: JSON lines, JSON, CSV, TSV, Excel or Parquet. Formats that name their own columns, such as
            CoNLL, are not guessed.
        options: What is known about the form, which is not guessed.
        roles: Roles of columns, which are not guessed; see `ROLES`.
        format: Format of the file. Defaults to the format of its extension.

    Returns:
        The guess, from the first rows that can be read.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a role is unknown, the format is unknown or not guessed, or the file is not in it or has no
            rows.
    """
    for column, role in (roles or {}).items():
        if role not in ROLES:
            raise ValueError(f"column {column!r}: {unknown_name_message('role', role, ROLES)}")
    form = guess_form(path, options, format)
    if form.format not in (*TABLES, "jsonl", "json", PARQUET):
        raise ValueError(f"{path}: the columns of the format {form.format!r} are not guessed.")
    rows = list(islice(_readable_rows(Path(path), form), LINES_COMPARED))
    if not rows:
        raise ValueError(f"{path}: expected at least one row, found none.")
    known = {name for row in rows for name in row}
    return FileGuess(form, guess_columns(rows, {k: v for k, v in (roles or {}).items() if k in known}), rows)


def task_name(column: str) -> str:
    """Return a name for the task of a column: its letters, digits and underscores."""
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_")
    if not name or name.isdigit():
        return _UNNAMED
    name = f"_{name}" if name[0].isdigit() else name
    try:
        TaskConfig(name, SEQUENCE_CLASSIFICATION)
    except ValueError:  # reserved, such as `test`
        return name + _SUFFIX
    return name


def _task_names(columns: Sequence[str]) -> list[str]:
    names: list[str] = []
    for column in columns:
        name = first = task_name(column)
        number = 2
        while name in names:
            name, number = f"{first}_{number}", number + 1
        names.append(name)
    return names


def _by_number(name: str, header: bool | None) -> str | int:
    return int(name) if header is False else name


def _readable_rows(path: Path, form: FileForm) -> Iterator[Row]:
    """Yield rows until the first broken one; all of it is broken if there is none before."""
    rows = open_file(path, form.format, None, form.options)
    found = False
    while True:
        try:
            row = next(rows).row
        except StopIteration:
            return
        except ValueError:
            if not found:
                raise
            return
        found = True
        yield row
