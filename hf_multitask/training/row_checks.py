"""Checks of the rows that a trainer is given."""

import logging

import datasets

from ..data import TrainingStream
from ..data.batches.token_batch_sampler import padded_lengths
from ..models import MultiTaskConfig
from ..models.encoder_loading import max_positions
from .row_lengths import check_row_lengths

logger = logging.getLogger(__name__)


def check_rows(rows: object, argument: str, has_collator: bool, config: MultiTaskConfig) -> None:
    """Check that a trainer can make batches of its rows, and that the encoder has positions for them.

    Args:
        rows: See `check_prepared`.
        argument: See `check_prepared`.
        has_collator: See `check_prepared`.
        config: Config of the model.

    Raises:
        ValueError: See `check_prepared` and `check_row_lengths`.
    """
    check_prepared(rows, argument, has_collator)
    check_row_lengths(rows, argument, max_positions(config))


def check_prepared(rows: object, argument: str, has_collator: bool) -> None:
    """Check that a trainer can make batches of its rows.

    Args:
        rows: Rows, or several sets of them by name; None if there are none.
        argument: Argument of the trainer that they are from.
        has_collator: Whether the trainer has a tokenizer or a data collator.

    Raises:
        ValueError: If there is no collator, or the rows are not prepared.
    """
    if isinstance(rows, dict):
        for name, part in rows.items():
            check_prepared(part, f"{argument}[{name!r}]", has_collator)
    elif rows is not None:
        columns = rows.column_names if isinstance(rows, datasets.Dataset) else _columns_of_first(rows)
        if columns is not None and "input_ids" not in columns:
            raise ValueError(
                f"{argument}: expected rows of prepare_datasets, found the columns {', '.join(map(str, columns))}. "
                'Prepare them first: data = prepare_datasets({"train": rows}, tokenizer, tasks), then give '
                'data["train"].'
            )
        if not has_collator:
            raise ValueError(
                "processing_class is missing: the tokenizer, which pads batches. Give the one that the rows were "
                "prepared with: MultiTaskTrainer(…, processing_class=tokenizer)."
            )


def _columns_of_first(rows: object) -> list[str] | None:
    """Return the columns of a list of rows, None for anything else."""
    return list(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None


def check_training_rows(dataset: object, length_column: str, max_tokens: int | None) -> None:
    """Check that the lengths of the training rows are known, and log how many rows are longer than a batch.

    Args:
        dataset: Training rows; None if the trainer only evaluates.
        length_column: Column of the rows' lengths.
        max_tokens: Maximum number of tokens in a batch; None if batches have a fixed number of rows.

    Raises:
        ValueError: If the rows are a stream, or have no lengths.
    """
    if dataset is None or max_tokens is None:
        return
    setting = f"max_tokens_per_batch={max_tokens}"
    if isinstance(dataset, TrainingStream):
        raise ValueError(
            f"{setting} cannot be used with a TrainingStream (streaming: true), whose rows have no length before they "
            "are read; leave one of the two out."
        )
    if not isinstance(dataset, datasets.Dataset) or length_column not in dataset.column_names:
        raise ValueError(
            f"{setting} needs the length of each training row: expected train_dataset to be a datasets.Dataset with "
            f"the column {length_column!r}, as prepare_datasets makes it, found {_describe(dataset)}."
        )
    too_long = sum(tokens > max_tokens for tokens in padded_lengths(dataset, length_column))
    if too_long:
        logger.warning(
            "%s: %d of %d training rows are longer; each makes a batch of its own.", setting, too_long, len(dataset)
        )


def _describe(dataset: object) -> str:
    if isinstance(dataset, datasets.Dataset):
        return f"the columns {', '.join(dataset.column_names)}"
    return f"a {type(dataset).__module__}.{type(dataset).__qualname__}"
