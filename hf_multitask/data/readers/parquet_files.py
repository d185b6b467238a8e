"""Parquet files, and folders written by ``save_to_disk``."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import datasets
import pyarrow
from pyarrow import parquet

from .file_reader import Columns, FileReader, RawRow
from .rows import LocatedRow, dataset_rows, unplaced, with_label_names

PARQUET = "parquet"
# Chunks of a file are made of raw rows, so these are small. Larger batches are faster to parse.
_ROWS_PER_RAW_ROW = 256
_ROWS_PER_BATCH = 1024
BRAT_HINT = (
    "brat's standoff files are not read; write a JSON line per text, with its spans as `[[start, end, type], …]` from "
    "the lines T1, T2, … of its .ann file."
)
# Key under which `datasets` writes the features of a file.
_DATASETS_METADATA = b"huggingface"


class ParquetReader(FileReader[pyarrow.RecordBatch]):
    """Rows of a Parquet file, with names instead of the ids of `ClassLabel` columns."""

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        super().__init__(path, columns)
        self._features = datasets.Features()
        self._share = 0.0

    @property
    def share(self) -> float:
        """See `FileReader.share`."""
        return self._share

    def raw_rows(self) -> Iterator[RawRow[pyarrow.RecordBatch]]:
        """Yield batches of rows; see `FileReader.raw_rows`."""
        return self._batches(_ROWS_PER_RAW_ROW)

    def rows(self) -> Iterator[LocatedRow]:
        """See `FileReader.rows`."""
        for index, batch in self._batches(_ROWS_PER_BATCH):
            yield from self.parse(index, batch)

    def _batches(self, max_rows: int) -> Iterator[RawRow[pyarrow.RecordBatch]]:
        file = _open(self.path)
        self._features = _features(self.path, file)
        self.check_columns(file.schema_arrow.names)
        num_read, num_rows = 0, file.metadata.num_rows
        try:
            for batch in file.iter_batches(batch_size=max_rows):
                index = num_read
                num_read += batch.num_rows
                self._share = num_read / num_rows
                yield index, batch
        except (OSError, pyarrow.ArrowException) as error:
            raise _incomplete(self.path, error) from error

    def extent(self, content: pyarrow.RecordBatch) -> tuple[int, int]:
        """See `FileReader.extent`."""
        return content.num_rows, content.nbytes

    def parse(self, number: int, content: pyarrow.RecordBatch) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        try:
            rows = with_label_names(content.to_pylist(), self._features)
        except (ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
            raise self._broken(number, content) from error
        return [LocatedRow(row, None, []) for row in rows]

    def has_lines(self, content: pyarrow.RecordBatch) -> bool:
        """See `FileReader.has_lines`."""
        return False

    def parts(self, number: int, content: pyarrow.RecordBatch) -> Iterable[RawRow[pyarrow.RecordBatch]]:
        """See `FileReader.parts`."""
        return ((number + i, content.slice(i, 1)) for i in range(content.num_rows))

    def _broken(self, number: int, content: pyarrow.RecordBatch) -> ValueError:
        """Return the error of the first cell that cannot be read."""
        for i in range(content.num_rows):
            for name in content.schema.names:
                features = datasets.Features({name: self._features[name]} if name in self._features else {})
                try:
                    with_label_names(content.slice(i, 1).select([name]).to_pylist(), features)
                except (ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
                    reason = str(error).removeprefix(f"column {name!r}: ")
                    return ValueError(f"{self.path}, row {number + i}: column {name!r}: {reason}")
        return ValueError(f"{self.path}, row {number}: the rows cannot be read.")


def parquet_features(path: Path) -> datasets.Features:
    """Return the features of a Parquet file.

    Raises:
        ValueError: If the file is not a whole Parquet file.
    """
    return _features(path, _open(path))


def read_folder(path: Path) -> Iterator[LocatedRow]:
    """Yield the rows of a dataset in a folder written by ``save_to_disk``.

    Raises:
        ValueError: See `load_folder`; if the rows are damaged.
    """
    dataset = load_folder(path)
    try:
        # Arrow reads memory that is not its own, up to a crash, where the offsets of damaged texts lead.
        dataset.data.table.validate(full=True)
        yield from map(unplaced, dataset_rows(dataset))
    except (ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: the rows cannot be read: {error}") from error


def load_folder(path: Path) -> datasets.Dataset:
    """Load the dataset in a folder written by ``save_to_disk``.

    Raises:
        ValueError: If the folder contains no dataset, a damaged one, or several splits.
    """
    try:
        dataset = datasets.load_from_disk(str(path))
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
        pyarrow.ArrowException,
    ) as error:
        hint = f" {BRAT_HINT}" if any(path.glob("*.ann")) else ""
        raise ValueError(f"{path}: expected a file, or a folder written by save_to_disk. {error}{hint}") from error
    if isinstance(dataset, datasets.DatasetDict):
        raise ValueError(
            f"{path}: contains the splits {', '.join(dataset)}; name one, such as {path / next(iter(dataset))}."
        )
    return dataset


def _open(path: Path) -> parquet.ParquetFile:
    try:
        file = parquet.ParquetFile(path)
        _ = file.schema_arrow.names  # decoded here for the first time
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the name of a column is not UTF-8, found {error.object!r}.") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise _incomplete(path, error) from error
    return file


def _features(path: Path, file: parquet.ParquetFile) -> datasets.Features:
    schema = file.schema_arrow
    try:
        return datasets.Features.from_arrow_schema(schema)
    except Exception as error:  # `datasets` raises anything for metadata of another form
        if _DATASETS_METADATA in (schema.metadata or {}):
            raise ValueError(
                f"{path}: the metadata that `datasets` writes, with the names of classes, cannot be read ({error}). "
                "Write the file again without it, and classes by their names."
            ) from error
    # Columns of types that `datasets` does not have, such as maps, are only refused if they are used.
    features = {}
    for column in schema:
        with suppress(ValueError, TypeError, KeyError):
            features[column.name] = datasets.features.features.generate_from_arrow_type(column.type)
    return datasets.Features(features)


def _incomplete(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: expected a whole Parquet file. {error}")
