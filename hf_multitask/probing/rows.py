"""Rows that a probe reads: a sample with labels of each task, and the rows on which it is scored."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

import datasets
import numpy as np

from ..data import PreparedData, TrainingStream
from ..data.dataset_loader import TRAIN, VALIDATION
from ..models.tasks import TaskConfig
from ..training.shared_rows import labeled_rows

logger = logging.getLogger(__name__)

# Share of the training rows that are held out if there is no validation with labels of each task.
HELD_OUT_SHARE = 0.2
# Held-out rows, as a share of the training rows, and at least.
SCORED_SHARE, MIN_SCORED_ROWS = 0.5, 200
# Maximum size of the states of a split.
MAX_BYTES = 2**29


@dataclass(frozen=True)
class ProbeRows:
    """Rows of a probe.

    Args:
        training: Rows that heads are trained on.
        held_out: Rows that they are scored on.
        source: What the held-out rows are, in words.
    """

    training: datasets.Dataset
    held_out: datasets.Dataset
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
        count = max(int(len(chosen) * SCORED_SHARE), MIN_SCORED_ROWS)
        scored = validation.select(_draw(validation, tasks, count, generator))
        rows = ProbeRows(chosen, _within_memory(scored, tasks, bytes_per_state), VALIDATION)
    else:
        held_out = _held_out(chosen, tasks)
        others = np.setdiff1d(np.arange(len(chosen)), held_out)
        rows = ProbeRows(chosen.select(others), chosen.select(held_out), f"{HELD_OUT_SHARE:.0%} of the train rows")
    _check_labeled(rows.training, tasks)
    _check_labeled(rows.held_out, tasks)
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


def _held_out(rows: datasets.Dataset, tasks: Sequence[TaskConfig]) -> np.ndarray:
    """Return the numbers of the rows that are held out: of each task its share."""
    found = [numbers[: max(int(len(numbers) * HELD_OUT_SHARE), 1)] for numbers in labeled_rows(rows, tasks).values()]
    return np.unique(np.concatenate(found))


def _check_labeled(rows: datasets.Dataset, tasks: Sequence[TaskConfig]) -> None:
    for name, numbers in labeled_rows(rows, tasks).items():
        if not len(numbers):
            raise ValueError(
                f"task {name!r}: too few rows of train have a label for it; expected at least 2, one to train a head "
                "and one to score it. Label some rows, or remove the task."
            )
