"""Rows on which the gradients of tasks are compared: drawn by step, apart from the order of the training rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa

from ..data.batches.numpy_rows import NumpyRowsDataset
from ..freezing.activation_cache.cache import NoCache
from ..models.collator import TEACHER_COLUMN
from ..models.losses import IGNORE_INDEX
from ..models.tasks import TaskConfig
from ..models.type_aliases import Batch, Row
from .dataloaders import prepare_rows

LABELS = "labels"
# With fewer rows, the gradient of a task is mostly noise.
MIN_ROWS = 8
# Tasks are compared on the rows that they have in common if these are at least this share of the rows of each.
MIN_COMMON = 0.5


@dataclass(frozen=True)
class TaskBatch:
    """Batch for some tasks.

    Args:
        tasks: Tasks that have labels in all of its rows.
        inputs: The batch, on the CPU.
    """

    tasks: Sequence[TaskConfig]
    inputs: Batch


class SharedRows:
    """Draws rows with labels of each task. The rows are a function of seed, step and process.

    Tasks that have labels in the same rows get the same rows, so that one pass of the encoder is enough for them.

    Args:
        dataset: Training rows.
        tasks: Tasks of the model.
        collator: Collator of the trainer.
        batch_size: Rows of a training batch on each process. Each task gets its share of them, but at least
            `MIN_ROWS`.
        seed: Seed of the draws.
        process: Number of this process.
        num_processes: Number of processes, which get different rows.

    Raises:
        ValueError: If rows cannot be drawn: they are streamed, or their labels are not those of `prepare_datasets`.
    """

    def __init__(
        self,
        dataset: object,
        tasks: Sequence[TaskConfig],
        collator: Callable[[list[Row]], Batch],
        batch_size: int,
        seed: int,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        if not isinstance(dataset, datasets.Dataset):
            raise ValueError(
                "the gradients of tasks are compared on rows that are drawn by number: expected the training rows of "
                f"prepare_datasets without streaming, found {type(dataset).__name__}."
            )
        self._pools = _pools(tasks, labeled_rows(dataset, tasks))
        self._rows = prepare_rows(dataset, False, NoCache(), collator)
        self._collator = collator
        self._num_rows = min(batch_size, max(MIN_ROWS, batch_size // max(len(tasks), 1)))
        self._seed, self._process, self._num_processes = seed, process, num_processes

    def draw(self, step: int) -> list[TaskBatch]:
        """Return the batches of a step. Tasks without labeled rows are in none."""
        batches = []
        for i, (tasks, numbers) in enumerate(self._pools):
            count = self._num_rows * self._num_processes
            generator = np.random.default_rng([self._seed, step, i])
            drawn = generator.choice(numbers, count, replace=len(numbers) < count)
            inputs = self._collator(self._read(drawn[self._process :: self._num_processes].tolist()))
            batches.append(TaskBatch(tasks, {key: value for key, value in inputs.items() if key != TEACHER_COLUMN}))
        return batches

    def _read(self, numbers: list[int]) -> list[Row]:
        if isinstance(self._rows, NumpyRowsDataset):
            return self._rows.__getitems__(numbers)
        return [self._rows[number] for number in numbers]


def labeled_rows(dataset: datasets.Dataset, tasks: Sequence[TaskConfig]) -> dict[str, np.ndarray]:
    """Return the numbers of the rows that have a label of a task, by task.

    Args:
        dataset: Rows of `prepare_datasets`.
        tasks: The tasks.

    Raises:
        ValueError: If the rows have no labels by task.
    """
    kind = dataset.data.schema.field(LABELS).type if LABELS in dataset.column_names else pa.null()
    names = [field.name for field in kind] if pa.types.is_struct(kind) else []
    if missing := [task.name for task in tasks if task.name not in names]:
        raise ValueError(
            f"train_dataset: the column 'labels' has no labels of task {missing[0]!r}, on which the gradients of "
            "tasks are compared; prepare the rows with prepare_datasets."
        )
    indices = None if dataset._indices is None else dataset._indices.column(0).to_numpy()
    found = {}
    for task in tasks:
        chunks = [chunk.flatten()[names.index(task.name)] for chunk in dataset.data.column(LABELS).chunks]
        flags = np.concatenate([_has_label(chunk) for chunk in chunks]) if chunks else np.zeros(0, bool)
        found[task.name] = np.flatnonzero(flags if indices is None else flags[indices])
    return found


def _has_label(labels: pa.Array) -> np.ndarray:
    """Return for each row of a column of labels whether any of them counts."""
    if not pa.types.is_list(labels.type):
        return _counts(labels)
    lengths = np.nan_to_num(labels.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
    before = np.concatenate([[0], np.cumsum(_counts(labels.flatten()))])
    ends = np.cumsum(lengths)
    return before[ends] > before[ends - lengths]


def _counts(labels: pa.Array) -> np.ndarray:
    values = labels.to_numpy(zero_copy_only=False)
    return ~np.isnan(values) if pa.types.is_floating(labels.type) else values > IGNORE_INDEX


def _pools(tasks: Sequence[TaskConfig], labeled: dict[str, np.ndarray]) -> list[tuple[list[TaskConfig], np.ndarray]]:
    """Divide the tasks into those that are compared on the same rows, with these rows."""
    pools: list[tuple[list[TaskConfig], np.ndarray]] = []
    for task in tasks:
        rows = labeled[task.name]
        if not len(rows):
            continue
        for i, (members, common) in enumerate(pools):
            both = np.intersect1d(common, rows, assume_unique=True)
            if len(both) >= MIN_COMMON * max(len(common), len(rows)):
                pools[i] = ([*members, task], both)
                break
        else:
            pools.append(([task], rows))
    return pools
