"""Rows of a dataset as views of its Arrow columns: a batch is taken without turning its numbers into Python's."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

# From the number of a row in a chunk of a column to its value.
_Reader = Callable[[int], Any]


def with_numpy_rows(dataset: datasets.Dataset, columns: Collection[str]) -> datasets.Dataset:
    """Return a dataset whose batches of rows hold arrays where others hold lists.

    Args:
        dataset: The dataset.
        columns: The columns that batches are to have, of those that there are.

    Returns:
        The same rows; ``dataset`` itself where it is transformed as it is read, or one of these columns has values
        that are missing, or neither numbers nor lists of numbers nor mappings of these.
    """
    if dataset.format["type"] is not None or not len(dataset):
        return dataset
    found = [dataset.data.column(name) for name in dataset.column_names if name in columns]
    can_view = all(_is_viewable(chunk) for column in found for chunk in column.chunks)
    return NumpyRowsDataset(dataset, columns) if can_view else dataset


class NumpyRowsDataset(datasets.Dataset):
    """What `with_numpy_rows` returns. Nothing is copied, so a dataset that is memory-mapped stays so."""

    def __init__(self, dataset: datasets.Dataset, columns: Collection[str]) -> None:
        super().__init__(dataset.data, dataset.info, dataset.split, dataset._indices, dataset._fingerprint)
        self.columns = columns

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows by their numbers."""
        rows = np.asarray(keys)
        if self._indices is not None:
            rows = self._indices.column(0).take(pa.array(rows)).to_numpy().astype(np.int64)
        values = [column.take(rows) for column in self._views.values()]
        return [dict(zip(self._views, row, strict=True)) for row in zip(*values, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the views out of what goes to another process, which makes its own."""
        return {name: value for name, value in vars(self).items() if name != "_views"}

    @cached_property
    def _views(self) -> dict[str, "_ColumnView"]:
        names = [name for name in self.column_names if name in self.columns]
        return {name: _ColumnView(self.data.column(name).chunks) for name in names}


class _ColumnView:
    """A column, chunk by chunk."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self.starts = np.array(list(accumulate((len(chunk) for chunk in chunks[:-1]), initial=0)))
        self.readers = [_reader(chunk) for chunk in chunks]

    def take(self, rows: np.ndarray) -> list[Any]:
        """Return the values of some rows."""
        chunks = np.searchsorted(self.starts, rows, side="right") - 1
        places = zip(chunks.tolist(), (rows - self.starts[chunks]).tolist(), strict=True)
        return [self.readers[chunk](row) for chunk, row in places]


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
