"""Formats of predictions. They are written in parts, which are merged at the end."""

import csv
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from io import TextIOWrapper
from operator import getitem
from pathlib import Path
from typing import BinaryIO

import datasets
import pyarrow
from pyarrow import parquet

from ..models.predictor import OutputOptions
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.type_aliases import Row

# Small row groups make a Parquet file slow to read, large ones take memory.
_ROWS_PER_GROUP = 2**16


class OutputFormat(ABC):
    """Base class of the formats.

    Args:
        tasks: The predicted tasks.
        options: Content of the predictions.
        keep: Columns of the input to write before the predictions.
        features: Features of the input's columns, if its file declares them.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        options: OutputOptions,
        keep: Sequence[str] = (),
        features: Mapping[str, object] | None = None,
    ) -> None:
        self.tasks, self.options, self.keep, self.features = tasks, options, keep, features or {}

    @abstractmethod
    def write(self, file: BinaryIO, rows: Sequence[Row]) -> None:
        """Write rows to a part, each with the kept columns and the predictions by task."""

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """Write the rows of all parts, in order."""
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


class JsonLines(OutputFormat):
    """One JSON object per line."""

    def write(self, file: BinaryIO, rows: Sequence[Row]) -> None:
        """See `OutputFormat.write`."""
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)


class Csv(OutputFormat):
    """A table. Values that do not fit into a cell are written as JSON.

    Raises:
        ValueError: If two columns would have the same name.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        options: OutputOptions,
        keep: Sequence[str] = (),
        features: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(tasks, options, keep, features)
        columns = [(name, [name]) for name in self.keep]
        columns += [
            (name, [task.name, *path]) for task in self.tasks for name, path in _task_columns(task, self.options)
        ]
        self.header = [name for name, _ in columns]
        # For each column, the keys of its value in a row.
        self.paths = [path for _, path in columns]
        if repeated := sorted({name for name in self.header if self.header.count(name) > 1}):
            named = ", ".join(map(repr, repeated))
            raise ValueError(f"CSV: two columns would have the name {named}; write JSONL or Parquet instead.")

    def write(self, file: BinaryIO, rows: Sequence[Row]) -> None:
        """See `OutputFormat.write`."""
        _write_table(file, ([_cell(reduce(getitem, path, row)) for path in self.paths] for row in rows))

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """See `OutputFormat.merge`."""
        _write_table(file, [self.header])
        super().merge(file, parts)


class Parquet(OutputFormat):
    """Nested columns, so that rows are read back as JSONL has them.

    Kept columns are text, except the numbers of a Parquet file, because all parts need the same types.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        options: OutputOptions,
        keep: Sequence[str] = (),
        features: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(tasks, options, keep, features)
        kept = [(name, _kept_type(self.features.get(name))) for name in self.keep]
        self.as_text = [name for name, kind in kept if kind == pyarrow.string()]
        self.schema = pyarrow.schema([*kept, *((task.name, _task_type(task, self.options)) for task in self.tasks)])

    def write(self, file: BinaryIO, rows: Sequence[Row]) -> None:
        """See `OutputFormat.write`."""
        values = [{**row, **{name: _cell(row[name]) for name in self.as_text}} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(values, self.schema), file)

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """See `OutputFormat.merge`."""
        with parquet.ParquetWriter(file, self.schema) as writer:
            tables: list[pyarrow.Table] = []
            for part in parts:
                tables.append(parquet.read_table(part, schema=self.schema))
                if sum(table.num_rows for table in tables) >= _ROWS_PER_GROUP:
                    writer.write_table(pyarrow.concat_tables(tables))
                    tables = []
            if tables:
                writer.write_table(pyarrow.concat_tables(tables))


OUTPUT_FORMATS: dict[str, type[OutputFormat]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Csv,
    ".parquet": Parquet,
}


def _task_columns(task: TaskConfig, options: OutputOptions) -> list[tuple[str, list[str]]]:
    """Return a task's columns in a table, each with the keys of its value in the prediction."""
    name, labels = task.name, task.labels or []
    if task.is_token_task:
        words = [(f"{name}_words", ["words"]), (f"{name}_labels", ["labels"])] if options.word_labels else []
        return [(name, ["entities"]), *words]
    if task.problem_type == REGRESSION:
        values = [(f"{name}_{label}", ["values", label]) for label in labels]
        return values if len(labels) > 1 else [(name, ["value"])]
    if options.top_k is not None:
        return [(name, [])]
    if task.problem_type == MULTI_LABEL:
        return [(name, ["labels"]), (f"{name}_scores", ["scores"])]
    scope = [] if task.abstain is None else ["best_label", "in_scope"]
    return [(name, ["label"]), *((f"{name}_{key}", [key]) for key in ("score", *scope))]


def _task_type(task: TaskConfig, options: OutputOptions) -> pyarrow.DataType:
    """Return the type of a task's nested column."""
    text, number, labels = pyarrow.string(), pyarrow.float64(), task.labels or []
    if task.is_token_task:
        offset = pyarrow.int64()
        entity = [("label", text), ("start", offset), ("end", offset), ("text", text), ("score", number)]
        words = [("words", pyarrow.list_(text)), ("labels", pyarrow.list_(text))] if options.word_labels else []
        return pyarrow.struct([*words, ("entities", pyarrow.list_(pyarrow.struct(entity)))])
    if task.problem_type == REGRESSION:
        values = pyarrow.struct([("values", pyarrow.struct([(label, number) for label in labels]))])
        return values if len(labels) > 1 else pyarrow.struct([("value", number)])
    scored = pyarrow.struct([("label", text), ("score", number)])
    if options.top_k is not None:
        return pyarrow.list_(scored)
    if task.problem_type == MULTI_LABEL:
        return pyarrow.struct([("labels", pyarrow.list_(text)), ("scores", pyarrow.list_(number))])
    if task.abstain is not None:
        return pyarrow.struct([*scored, ("best_label", text), ("in_scope", number)])
    return scored


def _kept_type(feature: object) -> pyarrow.DataType:
    """Return the type of a kept column: its own type if the input declares numbers, otherwise text."""
    if isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint", "float", "bool")):
        return feature.pa_type
    return pyarrow.string()


def _cell(value: object) -> str | None:
    """Return a value as text. Strings stay as they are, other values become JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_table(file: BinaryIO, rows: Iterable[Sequence[str | None]]) -> None:
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    text.detach()
