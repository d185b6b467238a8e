"""Rows that a probe reads: a sample with labels of each task, and the rows on which it is scored."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

import datasets
import numpy as np
import torch

from ..data import PreparedData, TrainingStream
from ..data.dataset_loader import TRAIN, VALIDATION
from ..models.tasks import TaskConfig
from ..training.shared_rows import labeled_rows

logger = logging.getLogger(__name__)

# Parts of the training rows that take turns in being scored if there is no validation with labels of each task.
NUM_FOLDS = 5
# Maximum number of validation rows that are scored.
MAX_SCORED_ROWS = 500
# Maximum size of the states of a split.
MAX_BYTES = 2**29


@dataclass(frozen=True)
class ProbeRows:
    """Rows of a probe.

    Args:
        training: Rows that heads are trained on.
        held_out: Rows that they are scored on; None if each fold of the training rows is scored by the heads of the
            others.
        folds: Fold of each training row (rows,) in that case.
        source: What the held-out rows are, in words.
    """

    training: datasets.Dataset
    held_out: datasets.Dataset | None
    folds: torch.Tensor
    source: str


def choose_rows(data: PreparedData, max_rows: int, bytes_per_state: int, seed: int) -> ProbeRows:
    """Draw the rows of a probe. Of a stream, the first rows are taken.

    Tasks take turns, so that each has rows with labels also if it has few.

    Args:
        data: Prepared data with training rows.
        max_rows: Maximum number of training rows.
        bytes_per_state: Size of the states of a token at all depths. If those of all rows are over `MAX_BYTES`, fewer
            rows are drawn.
        seed: Seed of the draw.

    Returns:
        The rows.

    Raises:
        ValueError: If a task has too few rows with labels.
    """
    tasks, generator = data.tasks, np.random.default_rng(seed)
    train = _first_rows(data[TRAIN], max_rows)
    _check_labeled(train, tasks)
    chosen = train.select(_draw(train, tasks, max_rows, generator))
    chosen = _within_memory(chosen, tasks, bytes_per_state)
    validation = data.get(VALIDATION)
    if isinstance(validation, datasets.Dataset) and all(map(len, labeled_rows(validation, tasks).values())):
        scored = validation.select(_draw(validation, tasks, MAX_SCORED_ROWS, generator))
        scored = _within_memory(scored, tasks, bytes_per_state)
        rows = ProbeRows(chosen, scored, torch.zeros(0), VALIDATION)
        _check_labeled(scored, tasks)
    else:
        source = f"each of {NUM_FOLDS} parts of train by the heads of the others"
        rows = ProbeRows(chosen, None, _folds(chosen, tasks), source)
    _check_labeled(chosen, tasks, 1 if rows.held_out else 2)
    return rows


def _first_rows(train: datasets.Dataset | TrainingStream, max_rows: int) -> datasets.Dataset:
    """Return all rows; of a stream, the first rows of each of its datasets."""
    if isinstance(train, datasets.Dataset):
        return train
    share = -(-max_rows // len(train.datasets))
    first = chain.from_iterable(islice(TrainingStream([dataset]), share) for dataset in train.datasets)
    return datasets.Dataset.from_list(list(first))


def _draw(
    dataset: datasets.Dataset, tasks: Sequence[TaskConfig], count: int, generator: np.random.Generator
) -> list[int]:
    """Return the numbers of rows, in the order of the draw."""
    by_task = [generator.permutation(numbers).tolist() for numbers in labeled_rows(dataset, tasks).values()]
    turns = chain.from_iterable(zip_longest(*by_task))
    return list(islice(dict.fromkeys(number for number in turns if number is not None), count))


def _within_memory(rows: datasets.Dataset, tasks: Sequence[TaskConfig], bytes_per_state: int) -> datasets.Dataset:
    """Return as many of the first rows as have states of at most `MAX_BYTES`."""
    has_words = any(task.is_token_task for task in tasks)
    states = np.cumsum([1 + has_words * len(ids) for ids in rows["input_ids"]])
    fitting = int((states * bytes_per_state <= MAX_BYTES).sum())
    if fitting == len(rows):
        return rows
    logger.info("The states of %d rows take too much memory; the probe reads %d.", len(rows), max(fitting, 1))
    return rows.select(range(max(fitting, 1)))


def _folds(rows: datasets.Dataset, tasks: Sequence[TaskConfig]) -> torch.Tensor:
    """Return the fold of each row (rows,): each has its share of the rows of each task."""
    folds = torch.full((len(rows),), -1)
    for numbers in labeled_rows(rows, tasks).values():
        free = torch.from_numpy(numbers)
        free = free[folds[free] < 0]
        folds[free] = torch.arange(len(free)) % NUM_FOLDS
    return folds


def _check_labeled(rows: datasets.Dataset, tasks: Sequence[TaskConfig], least: int = 1) -> None:
    for name, numbers in labeled_rows(rows, tasks).items():
        if len(numbers) < least:
            raise ValueError(
                f"task {name!r}: too few rows have a label for it, found {len(numbers)}; expected at least 2, one to "
                "train a head and one to score it. Label some rows, or remove the task."
            )
