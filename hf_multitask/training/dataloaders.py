"""Dataloaders of a trainer: the order of rows, the size of batches, and the position in a stream."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_utils import EvalLoopOutput, get_last_checkpoint, has_length

from ..data import (
    DATASET_COLUMN,
    EpochLengthGroupedSampler,
    LengthSortedSampler,
    MixedOrder,
    MultiTaskDataCollator,
    PreparationReport,
    Sampling,
    SortedTokenBatchSampler,
    StreamBatches,
    TokenBatchSampler,
    TrainingStream,
)
from ..data.batches.mixing import MIXED
from ..data.batches.numpy_rows import NumpyRowsDataset, with_numpy_rows
from ..data.batches.token_batch_sampler import padded_lengths
from ..data.streaming import STREAM_KEY, identity
from ..freezing.activation_cache.cache import ActivationCache, NoCache
from ..freezing.distillation import drift_sample
from ..models.collator import first_rows
from ..models.losses import ignore_labels
from ..models.tasks import TaskConfig
from ..models.type_aliases import Batch, JsonObject, Row
from .arguments import MultiTaskTrainingArguments
from .distillation import without_targets

logger = logging.getLogger(__name__)

# Position of the training rows in a stream, in a checkpoint.
STREAM_NAME = "stream.json"

T = TypeVar("T")


class TrainerDataLoaders:
    """Samplers, batches and dataloaders of a `MultiTaskTrainer`.

    Args:
        args: Arguments of the trainer.
        accelerator: Accelerator of the trainer.
        tasks: Tasks of the model.
        sampling: Share of each dataset in the training, if there are several.
        epoch: Return the current epoch of the training.
    """

    def __init__(
        self,
        args: MultiTaskTrainingArguments,
        accelerator: Accelerator,
        tasks: Sequence[TaskConfig],
        sampling: Sampling,
        epoch: Callable[[], int],
    ) -> None:
        self.args = args
        self.accelerator = accelerator
        self.tasks = tasks
        self.sampling = sampling
        self.epoch = epoch
        self.stream_state: JsonObject | None = None
        self.stream_report = PreparationReport()

    def begin(self, checkpoint: str | bool | None) -> None:
        """Begin a training, at the position of a checkpoint if rows are streamed.

        Args:
            checkpoint: Checkpoint that ``Trainer.train`` resumes from; True for the last one.
        """
        self.stream_state, self.stream_report = None, PreparationReport()
        if checkpoint and not self.args.ignore_data_skip:
            folder = get_last_checkpoint(self.args.output_dir) if checkpoint is True else checkpoint
            path = Path(str(folder), STREAM_NAME)
            if path.is_file():
                self.stream_state = json.loads(path.read_text(encoding="utf-8"))

    def save(self, folder: str) -> None:
        """Write the position in a stream to a checkpoint."""
        if self.stream_state is not None and self.args.process_index == 0:
            Path(folder, STREAM_NAME).write_text(json.dumps(self.stream_state), encoding="utf-8")

    def pop_stream_state(self, batches: Sequence[Batch]) -> None:
        """Take the position in the stream, and the report on its rows, out of the batches of a stream."""
        for batch in batches:
            stream = batch.pop(STREAM_KEY, None)
            if stream is not None:
                self.stream_state = stream["state"]
                self.stream_report.add(stream["report"])

    def log_stream_losses(self) -> None:
        """Log which rows of a stream were left out."""
        for line in self.stream_report.losses():
            logger.warning("train, as streamed: %s.", line)

    def follow(self, tasks: Sequence[TaskConfig], accelerator: Accelerator) -> None:
        """Make batches for another model from now on.

        Args:
            tasks: Tasks of the model.
            accelerator: Accelerator of the trainer; a search makes a new one for each trial.
        """
        self.tasks, self.accelerator = list(tasks), accelerator

    def sampler(self, rows: Dataset | datasets.Dataset, given: object, is_training: bool) -> Sampler | None:
        """Return the order of rows, None for the Trainer's own.

        Args:
            rows: Rows, as batches are made of them.
            given: The dataset that the trainer was given.
            is_training: Whether the rows are for training.
        """
        return self.train_sampler(rows, given) if is_training else self.eval_sampler(rows)

    def sampler_function(
        self, given: object, is_training: bool, default: Callable[[Dataset], Sampler | None] | None
    ) -> Callable[[Dataset], Sampler | None]:
        """Return a function from rows to their order.

        Args:
            given: See `sampler`.
            is_training: See `sampler`.
            default: The Trainer's own function, if it has one.
        """

        def make(rows: Dataset) -> Sampler | None:
            sampler = self.sampler(rows, given, is_training)
            return default(rows) if sampler is None and default is not None else sampler

        return make

    def train_sampler(self, rows: Dataset | datasets.Dataset, given: object) -> Sampler | None:
        """Return the order of training rows, None for the Trainer's own.

        Args:
            rows: Training rows, as batches are made of them.
            given: The dataset that the trainer was given, with the number of each row's dataset if there are several.
        """
        lengths, order = self._lengths(rows), self._mixed_order(given)
        if lengths is None and order is not None:
            lengths = [0] * len(given) if isinstance(given, Sized) else None
        if lengths is None:
            return None
        rows_per_step = self.args.train_batch_size * self._batches_per_step
        return EpochLengthGroupedSampler(lengths, rows_per_step, self._seed, self.epoch, order)

    def eval_sampler(self, rows: object) -> Sampler | None:
        """Return the order of evaluated rows, None for the Trainer's own."""
        lengths = self._lengths(rows)
        return None if lengths is None else LengthSortedSampler(lengths)

    def token_batches(self, dataset: object, is_training: bool) -> Sampler[list[int]] | None:
        """Return batches with a maximum number of tokens, None if batches have a fixed number of rows."""
        args, max_tokens = self.args, self.args.max_tokens_per_batch
        if max_tokens is None or not isinstance(dataset, datasets.Dataset) or not self._has_lengths(dataset):
            return None
        if is_training and self.sampling.batches == MIXED:
            raise ValueError(
                "sampling: batches='mixed' is for batches of a fixed number of rows; leave out max_tokens_per_batch."
            )
        lengths = padded_lengths(dataset, args.length_column_name)
        if not is_training:
            # Predictions of several processes are gathered from batches of one size.
            return SortedTokenBatchSampler(lengths, max_tokens) if args.world_size == 1 else None
        return TokenBatchSampler(
            lengths,
            max_tokens,
            self._seed,
            self.epoch,
            order=self._mixed_order(dataset),
            num_epochs=math.ceil(args.num_train_epochs),
            total_batches=args.max_steps * self._batches_per_step if args.max_steps > 0 else None,
            num_processes=args.world_size,
            process_index=args.process_index,
        )

    def load(self, rows: Dataset | datasets.Dataset, is_training: bool = True, **options: Any) -> DataLoader:
        """Return a dataloader of batches that are already divided between processes.

        Args:
            rows: Rows, or batches of them.
            is_training: Whether the rows are for training.
            options: Arguments of ``DataLoader`` that make batches of the rows.
        """
        return DataLoader(
            rows,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers and is_training,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            **options,
        )

    def load_stream(self, stream: TrainingStream, collator: Callable[[list[Row]], Batch]) -> DataLoader:
        """Return a dataloader of this process's batches of a stream, from the current position.

        Args:
            stream: Training rows.
            collator: Collator of the trainer.
        """
        batches = StreamBatches(
            stream,
            collator,
            self.sampling,
            seed=self._seed,
            batch_size=self.args.train_batch_size,
            num_processes=self.args.world_size,
            process_index=self.args.process_index,
        )
        if self.stream_state is not None:
            batches.load_state_dict(self.stream_state)
        return self.load(batches, batch_size=None, collate_fn=identity)

    def drop_padding_rows(self, batch: Batch, dataset: object) -> Batch:
        """Remove the rows that accelerate adds to the last batch of an epoch to fill it for all processes.

        Args:
            batch: Last batch of an epoch.
            dataset: Training rows.
        """
        args, accelerator = self.args, self.accelerator
        fills_up = accelerator.even_batches and not accelerator.split_batches and args.max_tokens_per_batch is None
        if args.world_size == 1 or not fills_up or args.dataloader_drop_last:
            return batch
        if not isinstance(dataset, Sized) or not has_length(dataset):
            return batch
        order = self._mixed_order(dataset)
        num_rows = len(dataset) if order is None else len(order)
        # Accelerate's own remainder ignores the other processes if a resumed run skips batches.
        remainder = num_rows % (args.train_batch_size * args.world_size)
        if remainder == 0:
            return batch
        kept = _own_rows(remainder, args.process_index, args.train_batch_size)
        if kept == 0:
            # DDP waits for every process, so this one trains on a row without labels.
            labels = ignore_labels(self.tasks, first_rows(batch["labels"], 1))
            return without_targets({**first_rows(batch, 1), "labels": labels})
        return first_rows(batch, kept)

    @property
    def _batches_per_step(self) -> int:
        return self.args.gradient_accumulation_steps * self.args.world_size

    @property
    def _seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _mixed_order(self, dataset: object) -> MixedOrder | None:
        """Return the order of rows of several datasets, None if each epoch takes each row of one dataset."""
        if not isinstance(dataset, datasets.Dataset) or DATASET_COLUMN not in dataset.column_names:
            return None
        sizes = np.bincount(dataset[DATASET_COLUMN][:]).tolist()
        return MixedOrder(sizes, self.sampling, self._seed)

    def _has_lengths(self, dataset: datasets.Dataset) -> bool:
        """Return whether batches of similar length are asked for and the lengths are known."""
        groups_by_length = self.args.train_sampling_strategy == "group_by_length"
        return groups_by_length and self.args.length_column_name in dataset.column_names

    def _lengths(self, rows: object) -> list[int] | None:
        """Return the lengths of rows if batches of similar length are asked for and the lengths are known."""
        if isinstance(rows, datasets.Dataset) and self._has_lengths(rows):
            return rows[self.args.length_column_name][:]
        return None


def prepare_rows(
    dataset: Dataset, is_training: bool, cache: ActivationCache | NoCache, collator: object
) -> Dataset | datasets.Dataset:
    """Return rows as batches are made of them.

    Args:
        dataset: Rows that the trainer was given.
        is_training: Whether the rows are for training.
        cache: Cache of the trainer, which may number the rows.
        collator: Collator of the trainer. A `MultiTaskDataCollator` reads arrays in place of lists, which is faster.
    """
    if not isinstance(dataset, datasets.Dataset):
        return dataset
    # Only the sampler reads the number of a row's dataset.
    named = dataset.remove_columns([name for name in dataset.column_names if name == DATASET_COLUMN])
    rows = cache.number_rows(dataset, named, is_training)
    if type(collator) is not MultiTaskDataCollator or isinstance(rows, NumpyRowsDataset):
        return rows
    return with_numpy_rows(rows, collator.columns)


def validation_sample(
    dataset: object, collator: Callable[[list[Row]], Batch], device: torch.device
) -> dict[str, torch.Tensor] | None:
    """Return a batch of validation rows, the same at each call; None if there are none that can be chosen from.

    Args:
        dataset: Validation set, or several by name, of which the first is used.
        collator: Collator of the trainer.
        device: Device of the model.
    """
    if isinstance(dataset, Mapping):
        dataset = next(iter(dataset.values()))
    if not isinstance(dataset, Sized) or not has_length(dataset):
        return None
    return drift_sample(dataset, collator, device)


@contextmanager
def drop_last_if(is_training: bool, args: MultiTaskTrainingArguments) -> Iterator[None]:
    """Let ``dataloader_drop_last`` drop rows in this context only if they are for training.

    Args:
        is_training: Whether the rows are for training.
        args: Arguments of the trainer, which it makes dataloaders by.
    """
    given = args.dataloader_drop_last
    args.dataloader_drop_last = given and is_training
    try:
        yield
    finally:
        args.dataloader_drop_last = given


def restore_row_order(dataloader: DataLoader, values: T) -> T:
    """Restore the dataset's order of values that were predicted longest row first.

    Args:
        dataloader: Dataloader of the rows.
        values: Arrays with an item per row, in nested mappings.

    Returns:
        The same values in the order of the dataset.
    """
    # Accelerate wraps batch samplers around batch samplers.
    batches: Any = getattr(dataloader, "batch_sampler", None)
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler = getattr(batches, "sampler", None)
    return _take(values, np.argsort(sampler.order)) if isinstance(sampler, LengthSortedSampler) else values


def in_row_order(dataloader: DataLoader, output: EvalLoopOutput) -> EvalLoopOutput:
    """Return the output of an evaluation with predictions and labels in the order of the dataset."""
    predictions = restore_row_order(dataloader, output.predictions)
    return output._replace(predictions=predictions, label_ids=restore_row_order(dataloader, output.label_ids))


def _take(values: Any, order: np.ndarray) -> Any:
    if isinstance(values, Mapping):
        return {name: _take(value, order) for name, value in values.items()}
    return None if values is None else values[order]


def num_own_rows(accelerator: Accelerator, batch_size: int) -> int:
    """Return how many rows of an evaluation batch are this process's own.

    With several processes, the last batches are filled up with rows from the start of the dataset, at their end.

    Args:
        accelerator: The accelerator, within an iteration over the batches.
        batch_size: Rows of the batch on this process.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return batch_size
    return _own_rows(state.remainder, accelerator.process_index, batch_size)


def _own_rows(remainder: int, process: int, batch_size: int) -> int:
    """Return how many of the rows that are left for the last batches of all processes are in that of one process."""
    return min(max(remainder - process * batch_size, 0), batch_size)
