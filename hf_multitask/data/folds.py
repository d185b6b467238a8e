"""Folds of prepared training rows, for cross-validation."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from ..models.losses import IGNORE_INDEX
from ..models.messages import unknown_name_message
from ..models.tags_iob2 import OUTSIDE, entity_type
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_alignment import Aligner
from .dataset_loader import SPLIT_SEED, TRAIN, VALIDATION, DatasetLoader
from .labels.fold_assignment import assign_folds
from .readers.rows import Rows
from .row_texts import RowTexts

# Stands for the missing label of a row: rows without a label for a task are spread over the folds too.
UNLABELLED = "(none)"


@dataclass(frozen=True)
class Folds:
    """Folds of the training rows.

    Args:
        number: Number of folds.
        fold_of: Fold of each row, from 0.
        held_out: The training rows as they are scored. They differ from the rows of training if all subwords of a word
            have labels there.
        texts: Texts of the rows.
        fully_labelled: Whether each row has a label for every task.
    """

    number: int
    fold_of: Sequence[int]
    held_out: datasets.Dataset
    texts: RowTexts
    fully_labelled: Sequence[bool]

    def rows(self, fold: int) -> list[int]:
        """Return the indexes of the rows of a fold, ascending."""
        self._check(fold)
        return [row for row, other in enumerate(self.fold_of) if other == fold]

    def other_rows(self, fold: int) -> list[int]:
        """Return the indexes of the rows of all other folds, ascending."""
        self._check(fold)
        return [row for row, other in enumerate(self.fold_of) if other != fold]

    def _check(self, fold: int) -> None:
        if not 0 <= fold < self.number:
            raise ValueError(f"fold must be from 0 to {self.number - 1}, found {fold}.")


def build_folds(
    loaders: Sequence[DatasetLoader],
    tasks: Sequence[TaskConfig],
    number: int,
    train: datasets.Dataset,
    aligners: Mapping[str, Aligner],
) -> Folds:
    """Build the folds of prepared training rows.

    Args:
        loaders: The datasets, with encoded labels.
        tasks: All tasks of the model, complete.
        number: Number of folds.
        train: The prepared rows of all datasets.
        aligners: Aligners by split.

    Returns:
        The folds.

    Raises:
        ValueError: See `fold_numbers`.
    """
    held_out, texts = train, RowTexts()
    aligner = aligners[VALIDATION]
    if aligner.label_subwords != aligners[TRAIN].label_subwords:
        held_out = datasets.concatenate_datasets([loader.align(TRAIN, tasks, aligner) for loader in loaders])
        if "window_lengths" in held_out.column_names and "window_lengths" not in train.column_names:
            held_out = held_out.remove_columns("window_lengths")
    for loader in loaders:
        texts.add(loader.splits[TRAIN].rows.rows)
    fully_labelled = [
        len(loader.tasks) == len(tasks) and all(row.get(str(task.column)) is not None for task in tasks)
        for loader in loaders
        for row in loader.splits[TRAIN].rows.rows
    ]
    return Folds(number, fold_numbers(loaders, tasks, number), held_out, texts, fully_labelled)


def fold_numbers(loaders: Sequence[DatasetLoader], tasks: Sequence[TaskConfig], number: int) -> list[int]:
    """Assign the training rows of all datasets to folds; see `assign_folds`.

    The folds do not depend on the seed of a training, so that scores are comparable.

    Args:
        loaders: The datasets, with encoded labels.
        tasks: All tasks of the model, complete.
        number: Number of folds.

    Returns:
        The fold of each row, from 0.

    Raises:
        ValueError: If there are fewer rows or groups than folds, or a row has no group. The message names the row.
    """
    labels: list[set[str]] = []
    groups: list[Hashable] = []
    for dataset, loader in enumerate(loaders):
        part = loader.splits[TRAIN]
        names = {task.name for task in loader.tasks}
        own = [task for task in tasks if task.name in names]
        # No task has an empty name: each fold has its share of each dataset.
        labels += [label_names(row, own) | {f":{dataset}"} for row in part.labels]
        if loader.config.group is None:
            groups += [(dataset, row) for row in range(len(part.rows.rows))]
        else:
            groups += _groups(part.rows, loader.config.group)
    has_groups = any(loader.config.group is not None for loader in loaders)
    return assign_folds(labels, number, SPLIT_SEED, groups if has_groups else None)


def label_names(labels: Mapping[str, Any], tasks: Sequence[TaskConfig]) -> set[str]:
    """Return the labels of a row that its fold is chosen by.

    Args:
        labels: Label ids of the row by task.
        tasks: The tasks.

    Returns:
        ``"<task>:<label>"`` for each label; entity types instead of tags. Numbers of a regression count only as
        present or missing.
    """
    return {f"{task.name}:{name}" for task in tasks for name in _names_of_task(task, labels[task.name])}


def check_labels_of_folds(folds: Folds, tasks: Sequence[TaskConfig]) -> None:
    """Check that each fold can be scored in each task.

    Args:
        folds: The folds.
        tasks: The tasks.

    Raises:
        ValueError: If a fold has no row with a label of a task, or no entity of a token task.
    """
    names = [label_names(labels, tasks) for labels in folds.held_out["labels"]]
    for task in tasks:
        empty = {f"{task.name}:{UNLABELLED}", *([f"{task.name}:{OUTSIDE}"] if task.is_token_task else [])}
        for fold in range(folds.number):
            if all(names[row] & empty for row in folds.rows(fold)):
                what = "entity" if task.is_token_task else "label"
                raise ValueError(
                    f"data.folds: fold {fold + 1} of {folds.number} has no {what} of task {task.name!r} to score; use "
                    "fewer folds."
                )


def _names_of_task(task: TaskConfig, value: Any) -> set[str]:
    names = task.labels or []
    if task.is_token_task:
        kinds = {entity_type(names[tag]) or OUTSIDE for tag in value if tag != IGNORE_INDEX}
        # Nearly every row has a word outside of entities.
        return (kinds - {OUTSIDE} or kinds) or {UNLABELLED}
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        if value[0] != value[0]:  # NaN
            return {UNLABELLED}
        return {names[i] for i, present in enumerate(value) if present} if task.problem_type == MULTI_LABEL else set()
    return {UNLABELLED if value < 0 else names[value]}


def _groups(rows: Rows, column: str) -> list[Hashable]:
    """Return the group of each row."""
    values = [row.get(column) for row in rows.rows]
    for i, value in enumerate(values):
        if not isinstance(value, (str, int)):
            if column not in rows.columns:
                raise ValueError(f"{rows.source}: group: {unknown_name_message('column', column, rows.columns)}")
            raise ValueError(
                f"{rows.place(i)}: group: expected a string or a whole number in column {column!r}, found "
                f"{value!r:.80}."
            )
    return [str(value) for value in values]
