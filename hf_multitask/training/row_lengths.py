"""Check of prepared rows against the positions of an encoder."""

from collections.abc import Mapping

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from ..data.streaming import TrainingStream
from ..models.encoder_loading import check_positions

# Lengths of the windows of a row, or of the whole row if each is one window.
LENGTH_COLUMNS = ("window_lengths", "length")


def check_row_lengths(rows: object, place: str, limit: int | None) -> None:
    """Check that an encoder has positions for all rows, which may have been prepared with another tokenizer.

    Args:
        rows: Prepared rows, or several such datasets by name. Rows of another kind are not checked.
        place: Name of the rows in the message.
        limit: Number of positions; None if there is no limit.

    Raises:
        ValueError: If a row, or a window of one, is longer.
    """
    if limit is None:
        return
    if isinstance(rows, TrainingStream):
        for dataset in rows.datasets:
            if dataset.aligner.max_length is None:
                raise ValueError(f"{place}: max_length is missing: the encoder has positions for {limit} tokens.")
            check_positions(dataset.aligner.max_length, limit)
    elif isinstance(rows, datasets.Dataset):
        longest = _longest(rows, limit)
        if longest > limit:
            raise ValueError(
                f"{place}: a row has {longest} tokens, and the encoder has positions for {limit}. Prepare the rows "
                f"with the tokenizer of load_tokenizer, or with max_length={limit} or less; longer rows are read in "
                "windows then."
            )
    elif isinstance(rows, Mapping):
        for name, some in rows.items():
            check_row_lengths(some, f"{place}[{name!r}]", limit)


def _longest(rows: datasets.Dataset, limit: int) -> int:
    """Return the number of tokens of the longest row or window, or any number up to the limit if none is longer."""
    column = next((name for name in LENGTH_COLUMNS if name in rows.column_names), None)
    if column is None or not len(rows):
        return 0
    # The table may have more rows than the dataset, which is quick to find out.
    longest = _maximum(rows.data.column(column))
    if longest <= limit:
        return longest
    return _maximum(rows.select_columns([column]).flatten_indices().data.column(column))


def _maximum(column: pa.ChunkedArray) -> int:
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return pc.max(values).as_py() or 0
