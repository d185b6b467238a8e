"""Rows of a dataset as NumPy views of its Arrow columns, without conversion to Python numbers."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ...models.type_aliases import Row

# Function from the index of a row in a chunk of a column to its value: a number, an array, or a mapping of these.
_Reader: TypeAlias = Callable[[int], Any]


def with_numpy_rows(dataset: datasets.Dataset, columns: Collection[str]) -> datasets.Dataset:
    """Return a dataset whose rows contain arrays instead of lists.

    Args:
        dataset: The dataset.
        columns: Names of the columns to read; names that the dataset does not have are ignored.

    Returns:
        The same rows. ``dataset`` itself, if it has a format or transform, or a column has missing values, or values
        that are not numbers, lists of numbers, or mappings of these.
    """
    if dataset.format["type"] is not None or not len(dataset):
        return dataset
    selected = [dataset.data.column(name) for name in dataset.column_names if name in columns]
    can_view = all(_is_viewable(chunk) for column in selected for chunk in column.chunks)
    return NumpyRowsDataset(dataset, columns) if can_view else dataset


class NumpyRowsDataset(datasets.Dataset):
    """Dataset whose rows contain NumPy views; see `with_numpy_rows`. Nothing is copied, so it stays memory-mapped."""

    def __init__(self, dataset: datasets.Dataset, columns: Collection[str]) -> None:
        super().__init__(dataset.data, dataset.info, dataset.split, dataset._indices, dataset._fingerprint)
        self.columns = columns

    def __getitems__(self, keys: Sequence[int]) -> list[Row]:
        """Return the rows with the given indexes."""
        rows = np.asarray(keys)
        if self._indices is not None:
            rows = self._indices.column(0).take(pa.array(rows)).to_numpy().astype(np.int64)
        values = [column.take(rows) for column in self._views.values()]
        return [dict(zip(self._views, row, strict=True)) for row in zip(*values, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the views, which another process makes from the table."""
        return {name: value for name, value in vars(self).items() if name != "_views"}

    @cached_property
    def _views(self) -> dict[str, "_ColumnView"]:
        names = [name for name in self.column_names if name in self.columns]
        return {name: _ColumnView(self.data.column(name).chunks) for name in names}


class _ColumnView:
    """View of a column, chunk by chunk."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self.starts = np.array(list(accumulate((len(chunk) for chunk in chunks[:-1]), initial=0)))
        self.readers = [_reader(chunk) for chunk in chunks]

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of the given rows."""
        chunks = np.searchsorted(self.starts, rows, side="right") - 1
        positions = zip(chunks.tolist(), (rows - self.starts[chunks]).tolist(), strict=True)
        return [self.readers[chunk](row) for chunk, row in positions]


def _is_viewable(values: pa.Array) -> bool:
    if values.null_count:
        return False
    if pa.types.is_struct(values.type):
        return all(_is_viewable(field) for field in values.flatten())
    if pa.types.is_list(values.type):
        numbers = values.values
        return _is_number(numbers.type) and not numbers.null_count
    return _is_number(values.type)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _reader(values: pa.Array) -> _Reader:
    if pa.types.is_struct(values.type):
        readers = {field.name: _reader(part) for field, part in zip(values.type, values.flatten(), strict=True)}
        return lambda row: {name: read(row) for name, read in readers.items()}
    if pa.types.is_list(values.type):
        ends, numbers = values.offsets.to_numpy(), values.values.to_numpy()
        return lambda row: numbers[ends[row] : ends[row + 1]]
    return values.to_numpy().item
