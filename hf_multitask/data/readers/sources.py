"""Sources of rows: files, folders, datasets, the hub and lists."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import datasets
import pandas as pd

from ...models.messages import unknown_name_message
from ...models.type_aliases import Row
from .file_formats import TABLES, file_features, find_format, open_file
from .file_reader import Columns
from .plain_values import plain_row
from .reading_options import ReadingOptions
from .rows import LocatedRow, dataset_rows, rename_columns, rename_row, unplaced

Source: TypeAlias = str | Path | datasets.Dataset | datasets.IterableDataset | pd.DataFrame | Sequence[Row]


def open_rows(
    source: Source,
    name: str = "rows",
    format: str | None = None,
    columns: Columns | None = None,
    options: ReadingOptions | None = None,
) -> Iterator[LocatedRow]:
    """Read the rows of a split lazily.

    Args:
        source: A file (JSONL, JSON, CSV, TSV, Excel, Parquet, CoNLL, exports of annotation tools; also as ``.gz``),
            a folder written by ``save_to_disk``, a dataset of ``datasets``, a data frame or a list of rows.
        name: Name in messages of a source that is not a file, such as the name of its split.
        format: Format of the file. Defaults to the format of the file's extension. See `open_file`.
        columns: By the library's name of a column, its name in the source. See `open_file`.
        options: Form of the file. See `open_file`.

    Returns:
        The rows, with their locations.

    Raises:
        ValueError: While iterating, if the file is not in its format. The message names file and line.
        FileNotFoundError: If the file does not exist.
    """
    if isinstance(source, (str, Path)):
        return open_file(source, format, columns, options)
    if isinstance(source, pd.DataFrame):
        source = frame_rows(source)
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        rows: Iterable[Row] = dataset_rows(source)
    else:
        rows = map(plain_row, source)
    return rename_columns(map(unplaced, rows), columns, name)


def frame_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a data frame of pandas, with None for missing values."""
    return [plain_row(row) for row in frame.rename(columns=str).to_dict("records")]


def class_names(source: Source, format: str | None = None, columns: Columns | None = None) -> dict[str, list[str]]:
    """Return the label names that a source declares as ``ClassLabel`` features.

    Args:
        source: See `open_rows`.
        format: See `open_rows`.
        columns: See `open_rows`.

    Returns:
        The names in the order of their ids, by the library's name of the column.
    """
    is_file = isinstance(source, (str, Path))
    features = file_features(str(source), format) if is_file else getattr(source, "features", None)
    labels = {name: getattr(feature, "feature", feature) for name, feature in (features or {}).items()}
    named = {name: label.names for name, label in labels.items() if isinstance(label, datasets.ClassLabel)}
    return rename_row(named, columns or {})


def is_table_file(source: Source, format: str | None) -> bool:
    """Return whether a source is a CSV, TSV or Excel file."""
    return isinstance(source, (str, Path)) and Path(source).is_file() and find_format(Path(source), format) in TABLES


def source_name(source: Source, name: str) -> str:
    """Return the name of a source in messages: its path if it is a file, otherwise the given name."""
    return str(source) if isinstance(source, (str, Path)) else name


def load_hub_split(
    name: str, split: str, config: str | None = None, revision: str | None = None, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a split of a dataset from the hub, or from a local folder that ``datasets`` can read.

    Args:
        name: Hub name or folder.
        split: Name of the split.
        config: Name of the dataset's configuration.
        revision: Revision on the hub.
        streaming: Whether to read the rows over the network while they are used, instead of downloading them first.

    Returns:
        The split.

    Raises:
        ValueError: If the dataset or split does not exist. The message names the existing splits, or what to do if the
            hub cannot be reached.
    """
    try:
        splits = datasets.get_dataset_split_names(name, config, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:  # a RuntimeError: the dataset is a loading script
        reason = str(error).rstrip(".")
        raise ValueError(
            f"dataset {name!r} could not be read: {reason}. Without the hub it has to be in the cache of `datasets`, "
            "or in folders: load it once where the hub can be reached, write each split with save_to_disk, and give "
            "the folders as train, validation and test, without `name`."
        ) from error
    if split not in splits:
        raise ValueError(f"dataset {name!r}: {unknown_name_message('split', split, splits)}")
    return datasets.load_dataset(name, config, split=split, streaming=streaming, revision=revision)
