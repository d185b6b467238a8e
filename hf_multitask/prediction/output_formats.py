"""The forms that predictions are written in, in parts that are put together afterwards."""

import csv
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from io import TextIOWrapper
from operator import getitem
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import pyarrow
from pyarrow import parquet

from ..models.predictor import OutputOptions
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig

# Row groups of a Parquet file: many small ones make it slow to read, large ones take memory.
_ROWS_PER_GROUP = 2**16


class OutputFormat(ABC):
    """Writes rows of predictions.

    Args:
        tasks: The tasks that are predicted.
        options: What predictions hold.
        keep: Columns of the input that go before them.
        features: What the columns of the input hold, where its file says so.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        options: OutputOptions,
        keep: Sequence[str] = (),
        features: Mapping[str, Any] | None = None,
    ) -> None:
        self.tasks, self.options, self.keep, self.features = tasks, options, keep, features or {}

    @abstractmethod
    def write(self, file: BinaryIO, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some rows to a part, each with the kept columns and the predictions by task."""

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """Write what parts hold, in their order."""
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


class JsonLines(OutputFormat):
    """A JSON object a line."""

    def write(self, file: BinaryIO, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `OutputFormat.write`."""
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)


class Csv(OutputFormat):
    """A table; what one cell cannot hold is written in it as JSON.

    Raises:
        ValueError: If two columns would have one name.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        columns = [(name, [name]) for name in self.keep]
        columns += [
            (name, [task.name, *place]) for task in self.tasks for name, place in _task_columns(task, self.options)
        ]
        self.header = [name for name, _ in columns]
        # By column, where its value is in a row.
        self.places = [place for _, place in columns]
        if twice := sorted({name for name in self.header if self.header.count(name) > 1}):
            named = ", ".join(map(repr, twice))
            raise ValueError(f"CSV: two columns would have the name {named}; write JSONL or Parquet instead.")

    def write(self, file: BinaryIO, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `OutputFormat.write`."""
        _write_table(file, ([_cell(reduce(getitem, place, row)) for place in self.places] for row in rows))

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """See `OutputFormat.merge`."""
        _write_table(file, [self.header])
        super().merge(file, parts)


class Parquet(OutputFormat):
    """Nested columns, so that a row read back is what JSONL has.

    Kept columns are text, but for the numbers of a Parquet file: one type must do for all parts.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        kept = [(name, _kept_type(self.features.get(name))) for name in self.keep]
        self.as_text = [name for name, kind in kept if kind == pyarrow.string()]
        self.schema = pyarrow.schema([*kept, *((task.name, _task_type(task, self.options)) for task in self.tasks)])

    def write(self, file: BinaryIO, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `OutputFormat.write`."""
        values = [{**row, **{name: _cell(row[name]) for name in self.as_text}} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(values, self.schema), file)

    def merge(self, file: BinaryIO, parts: Iterable[Path]) -> None:
        """See `OutputFormat.merge`."""
        with parquet.ParquetWriter(file, self.schema) as writer:
            held: list[pyarrow.Table] = []
            for part in parts:
                held.append(parquet.read_table(part, schema=self.schema))
                if sum(table.num_rows for table in held) >= _ROWS_PER_GROUP:
                    writer.write_table(pyarrow.concat_tables(held))
                    held = []
            if held:
                writer.write_table(pyarrow.concat_tables(held))


OUTPUT_FORMATS: dict[str, type[OutputFormat]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Csv,
    ".parquet": Parquet,
}


def _task_columns(task: TaskConfig, options: OutputOptions) -> list[tuple[str, list[str]]]:
    """Return a task's columns in a table, each with its place in the prediction."""
    name, labels = task.name, task.labels or []
    if task.is_token_task:
        words = [(f"{name}_words", ["words"]), (f"{name}_labels", ["labels"])] if options.word_labels else []
        return [(name, ["entities"]), *words]
    if task.problem_type == REGRESSION:
        several = [(f"{name}_{label}", ["values", label]) for label in labels]
        return several if len(labels) > 1 else [(name, ["value"])]
    if options.top_k is not None:
        return [(name, [])]
    if task.problem_type == MULTI_LABEL:
        return [(name, ["labels"]), (f"{name}_scores", ["scores"])]
    return [(name, ["label"]), (f"{name}_score", ["score"])]


def _task_type(task: TaskConfig, options: OutputOptions) -> pyarrow.DataType:
    """Return the type of a task's nested column."""
    text, number, labels = pyarrow.string(), pyarrow.float64(), task.labels or []
    if task.is_token_task:
        place = pyarrow.int64()
        entity = [("label", text), ("start", place), ("end", place), ("text", text), ("score", number)]
        words = [("words", pyarrow.list_(text)), ("labels", pyarrow.list_(text))] if options.word_labels else []
        return pyarrow.struct([*words, ("entities", pyarrow.list_(pyarrow.struct(entity)))])
    if task.problem_type == REGRESSION:
        several = pyarrow.struct([("values", pyarrow.struct([(label, number) for label in labels]))])
        return several if len(labels) > 1 else pyarrow.struct([("value", number)])
    scored = pyarrow.struct([("label", text), ("score", number)])
    if options.top_k is not None:
        return pyarrow.list_(scored)
    if task.problem_type == MULTI_LABEL:
        return pyarrow.struct([("labels", pyarrow.list_(text)), ("scores", pyarrow.list_(number))])
    return scored


def _kept_type(feature: Any) -> pyarrow.DataType:
    """Return the type of a kept column: that of numbers in a Parquet file, text for all else."""
    typed = isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint", "float", "bool"))
    return feature.pa_type if typed else pyarrow.string()


def _cell(value: Any) -> str | None:
    """Return a value as text: JSON, but for texts."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_table(file: BinaryIO, rows: Iterable[Sequence[str | None]]) -> None:
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    text.detach()
