"""Nested training subsets: each contains all rows of the smaller ones and keeps the share of every label."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

import datasets

from ..data import PreparedData
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.tasks_constraints import without_lost_constraints
from ..models.type_aliases import Row
from .study_plan import PlannedRun


class StudyData:
    """Prepared data of a study, from which each run takes its rows and tasks.

    Args:
        data: The prepared data.
    """

    def __init__(self, data: PreparedData) -> None:
        self.data = data
        self._orders: dict[tuple[int | None, int], list[int]] = {}
        self._labels: dict[int | None, list[set[str]]] = {}

    def for_run(self, run: PlannedRun) -> PreparedData:
        """Return the data that a run trains and is scored on; with folds, validation and test are the held-out fold.

        The tasks keep the labels of all training rows, so that the heads are the same for every size.

        Args:
            run: The run.
        """
        data = self.data if run.fold is None else self.data.fold(run.fold)
        train = data["train"]
        if isinstance(train, datasets.Dataset) and run.size < self._all_rows:
            # In the order of the file, as all rows would be.
            train = train.select(sorted(self._order(train, run)[: run.size]))
        splits = {**data.splits, "train": train}
        if run.fold is not None:
            splits["test"] = data["validation"]
        tasks = self.data.tasks
        if run.scenario.only_task is not None:
            tasks = without_lost_constraints([task for task in tasks if task.name == run.scenario.only_task])
        return replace(data, splits=splits, tasks=tasks)

    @cached_property
    def _all_rows(self) -> int:
        """The number of training rows, of the smallest training if there are folds, which stands for all rows."""
        train, folds = self.data["train"], self.data.folds
        if not isinstance(train, datasets.Dataset):
            return 0
        return len(train) - (0 if folds is None else max(len(folds.rows(fold)) for fold in range(folds.number)))

    def _order(self, train: datasets.Dataset, run: PlannedRun) -> list[int]:
        if run.fold not in self._labels:
            self._labels[run.fold] = labels_per_row(train, self.data.tasks)
        key = (run.fold, run.seed)
        if key not in self._orders:
            self._orders[key] = nested_order(self._labels[run.fold], run.seed)
        return self._orders[key]


def nested_order(labels: Sequence[Collection[str]], seed: int) -> list[int]:
    """Order rows so that the first n rows, for any n, have about the share of every label.

    A row counts for the rarest of its labels. The rows of each label are shuffled and spread evenly over the order.

    Args:
        labels: Labels of each row; with several tasks as ``"<task>:<label>"``. A row may have none.
        seed: Seed of the order. The same seed and labels give the same order.

    Returns:
        Indices of the rows. The first n are a training set of n rows, and larger training sets contain it.
    """
    counts = Counter(label for row in labels for label in row)
    rows_by_label: dict[str, list[int]] = {}
    for index, row in enumerate(labels):
        # Ties are broken by name: the order of a set differs between processes.
        rarest = min(row, key=lambda label: (counts[label], label), default="")
        rows_by_label.setdefault(rarest, []).append(index)
    generator = random.Random(seed)  # noqa: S311 (no secret)
    positions: list[tuple[float, float, int]] = []
    for label in sorted(rows_by_label):
        rows = rows_by_label[label]
        generator.shuffle(rows)
        # A random offset keeps the rarest labels from all ending up in the middle.
        offset = generator.random()
        positions += [((i + offset) / len(rows), generator.random(), row) for i, row in enumerate(rows)]
    return [row for *_, row in sorted(positions)]


def labels_per_row(dataset: datasets.Dataset, tasks: Sequence[TaskConfig]) -> list[set[str]]:
    """Return the labels of each row of a prepared split, as ``"<task>:<label>"``."""
    return [_label_names(labels, tasks) for labels in dataset["labels"]]


def _label_names(labels: Row, tasks: Sequence[TaskConfig]) -> set[str]:
    names: set[str] = set()
    for task in tasks:
        value = labels[task.name]
        if task.problem_type == REGRESSION:
            continue
        if task.problem_type == MULTI_LABEL:
            ids = [i for i, indicator in enumerate(value) if indicator == 1]
        else:
            ids = value if task.is_token_task else [value]
        names.update(f"{task.name}:{task.id2label[i]}" for i in ids if i > IGNORE_INDEX)
    return names
