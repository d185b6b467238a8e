"""Rows of a dataset whose states are cached."""

from functools import cached_property

import datasets
import numpy as np
import torch

from ...data import ROW_NUMBER_COLUMN, MultiTaskDataCollator
from ...data.batches.numpy_rows import with_numpy_rows
from .cache_key import digest_rows
from .store import ActivationStore, StatesLayout


class CachedRows:
    """A dataset with numbered rows, and the store that its batches are read from.

    Args:
        given: The dataset that the trainer was given.
        rows: Its rows, as batches are made of them.
        collator: Collator of the trainer.
        name: Name of the rows in messages.
        passes_per_epoch: Number of passes over the rows per epoch.
        hidden_size: Size of a state.
        dtype: Type of the cached states.
    """

    def __init__(
        self,
        given: datasets.Dataset,
        rows: datasets.Dataset,
        collator: MultiTaskDataCollator,
        name: str,
        passes_per_epoch: float,
        hidden_size: int,
        dtype: torch.dtype,
    ) -> None:
        self.given = given
        self.collator = collator
        self.name = name
        self.passes_per_epoch = passes_per_epoch
        self.hidden_size = hidden_size
        self.dtype = dtype
        numbered = rows.add_column(ROW_NUMBER_COLUMN, np.arange(len(rows)))
        self.dataset = with_numpy_rows(numbered, collator.columns)
        read = [*collator.tokenizer.model_input_names, "window_lengths"]
        self.encoded_columns = [name for name in read if name in rows.column_names]
        # The group for which a store was looked for, the store, and the keys of all stores by group.
        self.entering: str | None = None
        self.store: ActivationStore | None = None
        self.keys: dict[str, str] = {}

    @cached_property
    def digest_and_lengths(self) -> tuple[str, np.ndarray]:
        """A digest of the tokenized rows, and the number of tokens per row (num_rows)."""
        return digest_rows(self.dataset, self.encoded_columns)

    @cached_property
    def layout(self) -> StatesLayout:
        """Layout of the states of the rows."""
        return StatesLayout(self.digest_and_lengths[1], self.hidden_size, self.dtype)

    @property
    def longest_pass(self) -> int:
        """Number of tokens of the longest row, or of the longest window if rows are cut."""
        return min(int(self.layout.lengths.max()), self.collator.tokenizer.model_max_length)


def why_rows_not_cacheable(dataset: object) -> str | None:
    """Return the reason why the states of a dataset's rows cannot be cached, None if they can."""
    if not isinstance(dataset, datasets.Dataset):
        return "rows are not a datasets.Dataset, whose rows are the same in each epoch"
    if dataset.format["type"] == "custom":
        return "rows are transformed as they are read"
    if "attention_mask" not in dataset.column_names:
        return "rows have no attention_mask"
    return None
