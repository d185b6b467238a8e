"""Reading the rows of a split, from whatever holds them."""

from collections.abc import Sequence
from pathlib import Path

import datasets

from ..models.names import unknown_name
from .file_formats import Columns, read_file, rename_columns
from .rows import Row, Rows, with_label_names


def read_rows(
    source: str | Path | datasets.Dataset | Sequence[Row],
    name: str = "rows",
    format: str | None = None,
    columns: Columns | None = None,
) -> Rows:
    """Read the rows of one split.

    Args:
        source: A file (JSONL, JSON, CSV, TSV, Parquet, CoNLL, also with ``.gz``), a folder that ``save_to_disk`` has
            written, a ``datasets.Dataset`` or a list of rows.
        name: What messages call a source that is not a file, such as the name of its split.
        format: The file's format; by its extension where None. See `read_file`.
        columns: By our name of a column, its name in the source. See `read_file`.

    Returns:
        The rows.

    Raises:
        ValueError: If there are no rows, or the file is not in its format. The message names file and line.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(source, (str, Path)):
        rows = read_file(source, format, columns)
    elif isinstance(source, datasets.Dataset):
        rows = rename_columns(Rows(name, with_label_names(source).to_list()), columns)
    else:
        rows = rename_columns(Rows(name, [dict(row) for row in source]), columns)
    if not rows.rows:
        raise ValueError(f"{rows.source}: expected at least one row, found none.")
    return rows


def load_hub_split(name: str, split: str, config: str | None = None, revision: str | None = None) -> datasets.Dataset:
    """Load one split of a data set from the hub, or of a local folder that ``datasets`` can read.

    Args:
        name: Hub name or folder.
        split: Name of the split.
        config: Name of the data set's configuration.
        revision: Revision on the hub.

    Returns:
        The split.

    Raises:
        ValueError: If there is no such data set or split. The message names what there is.
    """
    try:
        splits = datasets.get_dataset_split_names(name, config, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"data set {name!r} could not be read: {error}") from error
    if split not in splits:
        raise ValueError(f"data set {name!r}: {unknown_name('split', split, splits)}")
    return datasets.load_dataset(name, config, split=split, revision=revision)
