"""Preparation of tokenized, labeled datasets for the trainer from rows."""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from ..models.messages import MAX_NAMES_SHOWN, unknown_name_message
from ..models.table_repr import ReprTable, ShownAsTable
from ..models.tasks import REGRESSION, TaskConfig
from ..models.tasks_class_weights import BALANCED
from ..models.tasks_constraints import check_constraints
from ..models.text_alignment import Aligner
from .config import SPLITS, DataConfig, data_configs
from .dataset_loader import TRAIN, VALIDATION, DatasetLoader
from .folds import Folds, build_folds
from .labels.class_balance import complete_class_weights, label_counts
from .labels.label_gaps import find_label_gaps
from .labels.seen_types import SeenTypes, count_seen_types, with_seen_types
from .preparation_report import PreparationReport, TeacherReport
from .provenance import DataProvenance, find_provenance
from .readers.sources import Source
from .row_texts import RowTexts
from .streaming import StreamedDataset, TrainingStream

logger = logging.getLogger(__name__)

# Number of the dataset of each row, if several are prepared together.
DATASET_COLUMN = "dataset"


@dataclass(repr=False)
class PreparedData(ShownAsTable):
    """Tokenized, labeled splits, and the tasks with their labels. Printed as tables of both.

    Args:
        splits: The datasets by split; train is a `TrainingStream` if it is streamed.
        tasks: The tasks, each with its labels.
        reports: Counts of what happened to the rows, for each split that is not streamed.
        origin: Provenance of the rows.
        texts: Texts of the validation and test rows by split, and of the training rows if they were asked for.
        folds: Folds of the training rows, if the config asks for them.
        teacher: What a teacher says about the training rows, if `add_teacher_targets` has added it.
        seen_types: Entity types of the training rows by their labels: by token task, then by single-label task. Empty
            if train is streamed.
    """

    splits: dict[str, datasets.Dataset | TrainingStream]
    tasks: list[TaskConfig]
    reports: dict[str, PreparationReport] = field(default_factory=dict)
    origin: DataProvenance = field(default_factory=DataProvenance)
    texts: dict[str, RowTexts] = field(default_factory=dict)
    folds: Folds | None = None
    teacher: TeacherReport | None = None
    seen_types: Mapping[str, Mapping[str, SeenTypes]] = field(default_factory=dict)

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the splits and one of the tasks."""
        splits = [
            [name, "streamed" if isinstance(rows, TrainingStream) else f"{len(rows):,}"]
            for name, rows in self.splits.items()
        ]
        if self.folds is not None:
            splits[0][1] += f", in {self.folds.number} folds"
        tasks = [
            [task.name, task.type.replace("_", " "), f"{len(task.labels or ())}: {', '.join(task.labels or ())}"]
            for task in self.tasks
        ]
        return [
            ReprTable("Prepared data", ("split", "rows"), splits),
            ReprTable("Tasks", ("task", "type", "labels"), tasks),
        ]

    def __getitem__(self, split: str) -> datasets.Dataset | TrainingStream:
        """Return a split."""
        if split not in self.splits:
            raise KeyError(unknown_name_message("split", split, self.splits))
        return self.splits[split]

    def get(self, split: str) -> datasets.Dataset | TrainingStream | None:
        """Return a split, or None if the data does not have it."""
        return self.splits.get(split)

    @property
    def first_training(self) -> "PreparedData":
        """The data of the first training: of the first fold if there are folds, else the data itself."""
        return self if self.folds is None else self.fold(0)

    def fold(self, number: int) -> "PreparedData":
        """Return the data of one training of a cross-validation.

        Tasks, labels, balanced class weights and the entity types by label are those of all rows. Nothing is tokenized
        again.

        Args:
            number: The fold, from 0.

        Returns:
            The data, with the rows of the fold as validation and the other rows as train; test is the same.

        Raises:
            ValueError: If the data has no folds, or not this one.
        """
        folds, train = self.folds, self.splits.get(TRAIN)
        if folds is None or not isinstance(train, datasets.Dataset):
            raise ValueError("the data has no folds; set folds in DataConfig.")
        held_out = folds.rows(number)
        fully_labelled = sum(folds.fully_labelled[row] for row in held_out)
        splits = {TRAIN: train.select(folds.other_rows(number)), VALIDATION: folds.held_out.select(held_out)}
        reports = {
            TRAIN: PreparationReport(
                rows=len(train) - len(held_out), fully_labelled_rows=sum(folds.fully_labelled) - fully_labelled
            ),
            VALIDATION: PreparationReport(rows=len(held_out), fully_labelled_rows=fully_labelled),
        }
        return dataclasses.replace(
            self,
            splits={**self.splits, **splits},
            reports={**self.reports, **reports},
            texts={**self.texts, VALIDATION: folds.texts.take(held_out)},
            folds=None,
        )


def prepare_datasets(
    data: Mapping[str, Source] | DataConfig | Sequence[DataConfig],
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
    train_texts: bool = False,
    **options: Any,
) -> PreparedData:
    """Read, check, tokenize and align the splits of one or several datasets.

    A row has ``tokens`` (a list of words) or ``text``, and a column for each task: a string, a list of strings or a
    number for a sequence task; for a token task a list with one tag per word, or of spans
    ``{"start", "end", "label"}`` of the text. Labels may be missing. If there are token tasks, texts are split into
    words by `split_words`. The second text of a pair is ``text_pair``, which has no tags.

    Args:
        data: By split (``"train"``, ``"validation"``, ``"test"``) a file, a folder of ``save_to_disk``, a dataset of
            ``datasets``, a data frame of pandas or a list of rows; or one or several `DataConfig`, whose rows are
            concatenated by split. Labels that a task does not name are read from train.
        tokenizer: A fast tokenizer, as returned by `load_tokenizer`.
        tasks: The tasks. A task with labels need not be in any of the datasets; no row has a label for it then.
        train_texts: Whether to keep the texts of the training rows too, which `add_teacher_targets` needs.
        options: Further fields of `DataConfig`, such as ``max_length``, if ``data`` is a mapping.

    Returns:
        The datasets, the tasks with their labels, and reports of what was cut or left out.

    Raises:
        ValueError: If something in the data is wrong. The message names file and line, what was expected and what
            was found.
    """
    configs = data_configs(data, options)
    loaders, tasks = load_datasets(configs, tasks)
    for line in (line for loader in loaders for line in loader.remarks()):
        logger.warning("%s", line)
    # Before anything is tokenized: a wrong label is reported at once, and balanced class weights count the labels.
    for loader in loaders:
        for rows in loader.splits.values():
            loader.encode(rows, tasks)
    tasks = _balanced_tasks(tasks, loaders)
    seen_types = count_seen_types(
        tasks, (row for loader in loaders if TRAIN in loader.splits for row in loader.splits[TRAIN].labels)
    )
    tasks = _constrained_tasks(tasks, seen_types)
    _warn_of_label_gaps(tasks, loaders)
    aligners = {split: build_aligner(tokenizer, tasks, configs[0], split) for split in SPLITS}
    prepared = PreparedData({}, tasks, origin=find_provenance(loaders), seen_types=seen_types)
    for split in SPLITS:
        parts = []
        for number, loader in enumerate(loaders):
            if split in loader.splits:
                part = loader.prepare_split(split, tasks, aligners[split], keep_tag_words=train_texts)
                parts.append(part.add_column(DATASET_COLUMN, [number] * len(part)) if len(loaders) > 1 else part)
                loaded = loader.splits[split]
                prepared.reports.setdefault(split, PreparationReport()).add(loaded.report)
                if split != TRAIN or train_texts:
                    prepared.texts.setdefault(split, RowTexts()).add(loaded.rows.rows)
        if parts:
            prepared.splits[split] = _joined(parts, has_windows=prepared.reports[split].windowed_rows > 0)
    train, num_folds = prepared.splits.get(TRAIN), configs[0].folds
    if num_folds is not None and isinstance(train, datasets.Dataset):
        prepared.folds = build_folds(loaders, tasks, num_folds, train, aligners)
    if any(config.streams_train for config in configs):
        for loader in loaders:
            # The stream keeps the loader, which does not need the rows of the other splits any more.
            loader.splits.clear()
        prepared.splits[TRAIN] = TrainingStream(
            [StreamedDataset(loader, aligners[TRAIN], tasks) for loader in loaders]
        )
    return prepared


def load_datasets(
    configs: Sequence[DataConfig], tasks: Sequence[TaskConfig]
) -> tuple[list[DatasetLoader], list[TaskConfig]]:
    """Read and check datasets, and complete the tasks from the training rows.

    Args:
        configs: The datasets.
        tasks: The tasks.

    Returns:
        The loaders of the datasets, with labels not encoded yet; and the tasks with their labels.

    Raises:
        ValueError: If something in the data is wrong. The message names file and line.
    """
    check_task_names(
        configs, tasks, [task.name for task in tasks if task.labels is not None or task.problem_type == REGRESSION]
    )
    tasks = [_with_subword(task, configs[0].label_subwords) for task in tasks]
    streaming = any(config.streams_train for config in configs)
    if streaming and any(config.validation_split for config in configs):
        raise ValueError("data: validation_split needs all rows of train, and another dataset is streamed.")
    names = [f"dataset {number}" if len(configs) > 1 else None for number in range(len(configs))]
    loaders = [DatasetLoader(config, tasks, streaming, name) for config, name in zip(configs, names, strict=True)]
    for loader in loaders:
        loader.split_off_validation()
    return loaders, _completed_tasks(tasks, loaders)


def build_aligner(
    tokenizer: PreTrainedTokenizerBase, tasks: Sequence[TaskConfig], config: DataConfig, split: str
) -> Aligner:
    """Build the aligner of a split.

    Args:
        tokenizer: The tokenizer.
        tasks: The tasks, with their labels.
        config: Any of the datasets; all datasets of a run share the settings of the aligner.
        split: The split.
    """
    # Labels of all subwords are for training only: a prediction has one per word.
    label_subwords = config.label_subwords or "first"
    if label_subwords == "all" and split != TRAIN:
        label_subwords = "first"
    return Aligner(tokenizer, tasks, config.max_length, config.overlap, config.truncate, label_subwords)


def check_task_names(configs: Sequence[DataConfig], tasks: Sequence[TaskConfig], learned: Collection[str]) -> None:
    """Check that datasets name existing tasks, and that each task that needs a dataset has one.

    Args:
        configs: The datasets.
        tasks: The tasks.
        learned: Names of tasks that need no dataset.

    Raises:
        ValueError: If a dataset names an unknown task, or no dataset has a task.
    """
    names = [task.name for task in tasks]
    for config in configs:
        for name in config.tasks or []:
            if name not in names:
                raise ValueError(f"data: {unknown_name_message('task', name, names)}")
    for name in names:
        if name not in learned and not any(config.tasks is None or name in config.tasks for config in configs):
            raise ValueError(f"data: no dataset has the task {name!r}; name it in the `tasks` of one.")


def _with_subword(task: TaskConfig, label_subwords: str | None) -> TaskConfig:
    """Set the subword of a word that a token task reads; the model predicts with it."""
    if not task.is_token_task:
        return task
    return dataclasses.replace(task, label_subword="last" if label_subwords == "last" else "first")


def _completed_tasks(tasks: Sequence[TaskConfig], loaders: Sequence[DatasetLoader]) -> list[TaskConfig]:
    """Complete the tasks from the training rows of all datasets, which must agree."""
    scanned: dict[str, list[tuple[str, TaskConfig]]] = {task.name: [] for task in tasks}
    for loader in loaders:
        if TRAIN in loader.sources:
            for name, task in loader.scan().items():
                scanned[name].append((loader.name_of(TRAIN), task))
        else:
            loader.recognize_schemes()
    return [_completed_task(task, scanned[task.name], loaders) for task in tasks]


def _completed_task(
    task: TaskConfig, scanned: Sequence[tuple[str, TaskConfig]], loaders: Sequence[DatasetLoader]
) -> TaskConfig:
    """Complete a task from its scans: for each dataset with the task, the name of train and the completed task."""
    if not scanned:
        if task.labels is None and task.problem_type != REGRESSION:
            splits = ", ".join(split for loader in loaders for split in loader.sources)
            raise ValueError(
                f"task {task.name!r} has no labels and there is no split 'train' to read them from, found {splits}."
            )
        return task
    _refuse_disagreement(scanned)
    completed = scanned[0][1]
    if not task.is_token_task:
        return completed
    schemes = {loader.schemes[task.name] for loader in loaders if task.name in loader.schemes}
    return dataclasses.replace(completed, tag_scheme=schemes.pop() if len(schemes) == 1 else None)


def _refuse_disagreement(scanned: Sequence[tuple[str, TaskConfig]]) -> None:
    """Raise if the training rows of different datasets imply different problem types or label sets for a task."""
    (first, expected), *others = scanned
    for source, task in others:
        if task.problem_type != expected.problem_type:
            raise ValueError(
                f"task {task.name!r}: {first} makes it a {expected.problem_type}, {source} a {task.problem_type}."
            )
        for having, lacking, having_source, lacking_source in (
            (task, expected, source, first),
            (expected, task, first, source),
        ):
            if extra := sorted(set(having.labels or []) - set(lacking.labels or [])):
                shown = ", ".join(extra[:MAX_NAMES_SHOWN])
                raise ValueError(
                    f"task {task.name!r}: {having_source} has labels that {lacking_source} does not have: {shown}. "
                    "Rows of one dataset would teach that the other's labels do not occur. Name all `labels` in the "
                    "task if that is right, or make two tasks of it."
                )


def _balanced_tasks(tasks: Sequence[TaskConfig], loaders: Sequence[DatasetLoader]) -> list[TaskConfig]:
    """Compute balanced class weights from the label ids of the training rows."""
    train = [loader.splits[TRAIN].labels for loader in loaders if TRAIN in loader.splits]
    balanced = []
    for task in tasks:
        if task.class_weights == BALANCED:
            if not train:
                raise ValueError(
                    f"task {task.name!r}: class_weights={BALANCED!r} needs all rows of train in memory, which a "
                    "stream or an evaluation does not have; give the weights by label."
                )
            task = complete_class_weights(
                task, *label_counts(task, [row[task.name] for rows in train for row in rows])
            )
        balanced.append(task)
    return balanced


def _constrained_tasks(
    tasks: Sequence[TaskConfig], seen_types: Mapping[str, Mapping[str, SeenTypes]]
) -> list[TaskConfig]:
    """Find in the training rows the entity types by label of tasks that are constrained by others."""
    tasks = [with_seen_types(task, seen_types.get(task.name, {})) for task in tasks]
    check_constraints(tasks)
    return tasks


def _warn_of_label_gaps(tasks: Sequence[TaskConfig], loaders: Sequence[DatasetLoader]) -> None:
    """Log which labels the training lacks; raise if validation has none at all."""
    labels = {
        split: [row for loader in loaders if split in loader.splits for row in loader.splits[split].labels]
        for split in SPLITS
        if any(split in loader.splits for loader in loaders)
    }
    for line in find_label_gaps(tasks, labels):
        logger.warning("%s.", line)


def _joined(parts: Sequence[datasets.Dataset], has_windows: bool) -> datasets.Dataset:
    """Concatenate a split of several datasets, without the lengths of windows if each row is one window."""
    joined = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    if "window_lengths" in joined.column_names and not has_windows:
        joined = joined.remove_columns("window_lengths")
    return joined
