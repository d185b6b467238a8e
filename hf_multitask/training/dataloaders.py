"""Which rows make the batches of a trainer: their order, their number, their place in a stream."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint, has_length

from ..data import (
    DATASET_COLUMN,
    EpochLengthGroupedSampler,
    LengthSortedSampler,
    MixedOrder,
    PreparationReport,
    Sampling,
    SortedTokenBatchSampler,
    StreamBatches,
    TokenBatchSampler,
    TrainingStream,
)
from ..data.batches.token_batch_sampler import padded_lengths
from ..data.streaming import STREAM_KEY, identity
from ..models.collator import first_rows
from ..models.losses import ignore_labels

logger = logging.getLogger(__name__)

# Where the stream of a checkpoint's training rows goes on.
STREAM_NAME = "stream.json"


class TrainerDataLoaders:
    """Makes the batches of a `MultiTaskTrainer`.

    Args:
        trainer: The trainer.
        sampling: How much the training takes of each of several datasets.
    """

    def __init__(self, trainer: Trainer, sampling: Sampling) -> None:
        self.trainer = trainer
        self.args = trainer.args
        self.sampling = sampling
        self.stream_state: dict[str, Any] | None = None
        self.stream_report = PreparationReport()

    def begin(self, checkpoint: str | bool | None) -> None:
        """Begin a training; of a stream, where a checkpoint says.

        Args:
            checkpoint: What ``Trainer.train`` resumes from.
        """
        self.stream_state, self.stream_report = None, PreparationReport()
        if checkpoint and not self.args.ignore_data_skip:
            folder = get_last_checkpoint(self.args.output_dir) if checkpoint is True else checkpoint
            path = Path(str(folder), STREAM_NAME)
            if path.is_file():
                self.stream_state = json.loads(path.read_text(encoding="utf-8"))

    def save(self, folder: str) -> None:
        """Write into a checkpoint where a stream goes on."""
        if self.stream_state is not None and self.args.process_index == 0:
            Path(folder, STREAM_NAME).write_text(json.dumps(self.stream_state), encoding="utf-8")

    def pop_stream_state(self, batches: Sequence[dict[str, Any]]) -> None:
        """Take out of the batches of a stream where it is to go on, and what became of its rows."""
        for batch in batches:
            notes = batch.pop(STREAM_KEY, None)
            if notes is not None:
                self.stream_state = notes["state"]
                self.stream_report.add(notes["report"])

    def train_sampler(self, dataset: Any) -> Sampler | None:
        """Return the order of training rows, None where the Trainer's own is to be taken."""
        lengths, order = self._lengths(dataset), self._mixed_order()
        if lengths is None and order is not None:
            lengths = [0] * len(dataset)
        if lengths is None:
            return None
        rows_per_step = self.args.train_batch_size * self._batches_per_step
        return EpochLengthGroupedSampler(lengths, rows_per_step, self._seed, self._epoch, order)

    def eval_sampler(self, dataset: Any) -> Sampler | None:
        """Return the order of an evaluation's rows, None where the Trainer's own is to be taken."""
        lengths = self._lengths(dataset)
        return None if lengths is None else LengthSortedSampler(lengths)

    def token_batches(self, dataset: Any, is_training: bool) -> Sampler[list[int]] | None:
        """Return the batches counted in tokens, None where they have a fixed number of rows."""
        args, max_tokens = self.args, self.args.max_tokens_per_batch
        if max_tokens is None or self._lengths(dataset) is None:
            return None
        lengths = padded_lengths(dataset, args.length_column_name)
        if not is_training:
            # Predictions are gathered from batches of one size.
            return SortedTokenBatchSampler(lengths, max_tokens) if args.world_size == 1 else None
        return TokenBatchSampler(
            lengths,
            max_tokens,
            self._seed,
            self._epoch,
            order=self._mixed_order(),
            num_epochs=math.ceil(args.num_train_epochs),
            total_batches=args.max_steps * self._batches_per_step if args.max_steps > 0 else None,
            num_processes=args.world_size,
            process_index=args.process_index,
        )

    def stream_batches(self, stream: TrainingStream) -> StreamBatches:
        """Return the batches of a stream that are this process's, from where it goes on."""
        args = self.args
        batches = StreamBatches(
            stream,
            self.trainer.data_collator,
            self.sampling,
            seed=self._seed,
            batch_size=args.train_batch_size,
            num_processes=args.world_size,
            process_index=args.process_index,
        )
        if self.stream_state is not None:
            batches.load_state_dict(self.stream_state)
        return batches

    def load(self, dataset: Any, is_training: bool = True, **what: Any) -> DataLoader:
        """Return a loader of batches that are this process's already.

        Args:
            dataset: The rows, or batches.
            is_training: Whether they are for training.
            what: How they become batches: arguments of ``DataLoader``.
        """
        return DataLoader(
            dataset,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers and is_training,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            **what,
        )

    def load_stream(self, stream: TrainingStream) -> DataLoader:
        """Return a loader of the batches of a stream."""
        return self.load(self.stream_batches(stream), batch_size=None, collate_fn=identity)

    def drop_padding_rows(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Leave out the rows with which accelerate fills the last batch of an epoch up for all processes."""
        args, accelerator = self.args, self.trainer.accelerator
        fills_up = accelerator.even_batches and not accelerator.split_batches and args.max_tokens_per_batch is None
        if args.world_size == 1 or not fills_up or args.dataloader_drop_last:
            return batch
        dataset = self.trainer.train_dataset
        if not has_length(dataset):
            return batch
        order = self._mixed_order()
        rows = len(dataset) if order is None else len(order)
        # Accelerate's own remainder forgets the other processes where a resumed run skips batches.
        remainder = rows % (args.train_batch_size * args.world_size)
        if remainder == 0:
            return batch
        kept = min(max(remainder - args.process_index * args.train_batch_size, 0), args.train_batch_size)
        if kept == 0:
            # DDP waits for each process: one row, without labels.
            labels = ignore_labels(self.trainer.tasks, first_rows(batch["labels"], 1))
            return {**first_rows(batch, 1), "labels": labels}
        return first_rows(batch, kept)

    @property
    def _batches_per_step(self) -> int:
        return self.args.gradient_accumulation_steps * self.args.world_size

    @property
    def _seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _epoch(self) -> int:
        return int(self.trainer.state.epoch or 0)

    def _mixed_order(self) -> MixedOrder | None:
        """Return which training rows each epoch takes of several datasets, None where it is each row once."""
        dataset = self.trainer.train_dataset
        if not isinstance(dataset, datasets.Dataset) or DATASET_COLUMN not in dataset.column_names:
            return None
        sizes = np.bincount(dataset[DATASET_COLUMN][:]).tolist()
        return MixedOrder(sizes, self.sampling, self._seed)

    def _lengths(self, dataset: Any) -> list[int] | None:
        """Return the rows' lengths if batches of like length are wanted and the lengths are known."""
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, datasets.Dataset):
            return None
        column = self.args.length_column_name
        return dataset[column][:] if column in dataset.column_names else None


def check_training_rows(dataset: object, length_column: str, max_tokens: int) -> None:
    """Check that the lengths of the training rows are known, and log how many rows are longer than a batch.

    Args:
        dataset: Training rows; None if the trainer only evaluates.
        length_column: Column of the rows' lengths.
        max_tokens: Maximum number of tokens in a batch.

    Raises:
        ValueError: If the rows are a stream, or have no lengths.
    """
    if dataset is None:
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


def restore_row_order(dataloader: DataLoader, values: Any) -> Any:
    """Put what was predicted longest rows first back into the order of the rows.

    Args:
        dataloader: What the rows came from.
        values: Arrays with an item a row, in nested mappings.

    Returns:
        The same in the dataset's order.
    """
    # Accelerate wraps batch samplers around batch samplers.
    batches: Any = getattr(dataloader, "batch_sampler", None)
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler = getattr(batches, "sampler", None)
    return _take(values, np.argsort(sampler.order)) if isinstance(sampler, LengthSortedSampler) else values


def _describe(dataset: object) -> str:
    if isinstance(dataset, datasets.Dataset):
        return f"the columns {', '.join(dataset.column_names)}"
    return f"a {type(dataset).__module__}.{type(dataset).__qualname__}"


def _take(values: Any, order: np.ndarray) -> Any:
    if isinstance(values, Mapping):
        return {name: _take(value, order) for name, value in values.items()}
    return None if values is None else values[order]
