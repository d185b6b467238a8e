"""Opening the rows of a split, whatever holds them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import datasets

from ...models.messages import unknown_name_message
from ...models.type_aliases import Row
from .file_formats import file_features, open_file
from .file_reader import Columns
from .rows import LocatedRow, dataset_rows, rename_columns, rename_row, unplaced

Source: TypeAlias = str | Path | datasets.Dataset | datasets.IterableDataset | Sequence[Row]


def open_rows(
    source: Source, name: str = "rows", format: str | None = None, columns: Columns | None = None
) -> Iterator[LocatedRow]:
    """Read the rows of one split one after the other.

    Args:
        source: A file (JSONL, JSON, CSV, TSV, Parquet, CoNLL, exports of annotation tools, also with ``.gz``), a
            folder that ``save_to_disk`` has written, a dataset of ``datasets`` or a list of rows.
        name: What messages call a source that is not a file, such as the name of its split.
        format: The file's format; by its extension where None. See `open_file`.
        columns: By our name of a column, its name in the source. See `open_file`.

    Returns:
        The rows, with their places.

    Raises:
        ValueError: If the file is not in its format; while the rows are taken. The message names file and line.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(source, (str, Path)):
        return open_file(source, format, columns)
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        rows: Iterable[Row] = dataset_rows(source)
    else:
        rows = (dict(row) for row in source)
    return rename_columns(map(unplaced, rows), columns, name)


def class_names(source: Source, format: str | None = None, columns: Columns | None = None) -> dict[str, list[str]]:
    """Return the label names that a source itself declares, as ``ClassLabel`` features.

    Args:
        source: See `open_rows`.
        format: See `open_rows`.
        columns: See `open_rows`.

    Returns:
        The names in the order of their ids, by our name of the column.
    """
    is_file = isinstance(source, (str, Path))
    features = file_features(str(source), format) if is_file else getattr(source, "features", None)
    labels = {name: getattr(feature, "feature", feature) for name, feature in (features or {}).items()}
    named = {name: label.names for name, label in labels.items() if isinstance(label, datasets.ClassLabel)}
    return rename_row(named, columns or {})


def source_name(source: Source, name: str) -> str:
    """Return what messages call a source: its file, or the name that it is given."""
    return str(source) if isinstance(source, (str, Path)) else name


def load_hub_split(
    name: str, split: str, config: str | None = None, revision: str | None = None, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """Load one split of a dataset from the hub, or of a local folder that ``datasets`` can read.

    Args:
        name: Hub name or folder.
        split: Name of the split.
        config: Name of the dataset's configuration.
        revision: Revision on the hub.
        streaming: Read the rows over the network while they are used, instead of downloading them first.

    Returns:
        The split.

    Raises:
        ValueError: If there is no such dataset or split. The message names what there is, or how to go on where the
            hub is out of reach.
    """
    options: dict[str, Any] = {"revision": revision}
    try:
        splits = datasets.get_dataset_split_names(name, config, **options)
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"dataset {name!r} could not be read: {reason}. Without the hub it has to be in the cache of `datasets`, "
            "or in folders: load it once where the hub is in reach, write each split with save_to_disk, and give the "
            "folders as train, validation and test, without `name`."
        ) from error
    if split not in splits:
        raise ValueError(f"dataset {name!r}: {unknown_name_message('split', split, splits)}")
    return datasets.load_dataset(name, config, split=split, streaming=streaming, **options)
