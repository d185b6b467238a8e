"""From rows to the tokenized, labelled datasets that the trainer takes."""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from ..models.messages import MAX_NAMES_SHOWN, unknown_name_message
from ..models.tasks import REGRESSION, TaskConfig
from ..models.tasks_class_weights import BALANCED
from ..models.text_alignment import Aligner
from ..models.type_aliases import Row
from .config import SPLITS, DataConfig, data_configs
from .dataset_loader import TRAIN, DatasetLoader
from .labels.class_balance import complete_class_weights, label_counts
from .preparation_report import PreparationReport
from .provenance import DataProvenance, data_origin
from .readers.sources import Source
from .row_texts import RowTexts
from .streaming import StreamedDataset, TrainingStream
from .tokenization import tokenize

logger = logging.getLogger(__name__)

# The dataset of a row, by its number, where several are prepared together.
DATASET_COLUMN = "data_set"
# What `Aligner` tells of a row only for the report.
COUNTED_COLUMNS = ("subwords", "truncated", "lost_words")


@dataclass
class PreparedData:
    """Tokenized, labelled splits, and the tasks with the labels that were read.

    Args:
        splits: The datasets by split; train is a `TrainingStream` where it is streamed.
        tasks: The tasks, each with its labels.
        reports: What became of the rows, by split; of a stream, what its first pass has told.
        origin: Where the rows come from.
        texts: The texts of the rows of validation and test, by split.
    """

    splits: dict[str, datasets.Dataset | TrainingStream]
    tasks: list[TaskConfig]
    reports: dict[str, PreparationReport] = field(default_factory=dict)
    origin: DataProvenance = field(default_factory=DataProvenance)
    texts: dict[str, RowTexts] = field(default_factory=dict)

    def __getitem__(self, split: str) -> datasets.Dataset | TrainingStream:
        """Return a split."""
        if split not in self.splits:
            raise KeyError(unknown_name_message("split", split, self.splits))
        return self.splits[split]

    def get(self, split: str) -> datasets.Dataset | TrainingStream | None:
        """Return a split, None where there is none."""
        return self.splits.get(split)


def prepare_datasets(
    data: Mapping[str, Source] | DataConfig | Sequence[DataConfig],
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
    **options: Any,
) -> PreparedData:
    """Read, check, tokenize and align the splits of one or several datasets.

    A row has ``tokens`` (a list of words) or ``text``, and a column for each task: a string, a list of strings or a
    number for a sequence task; for a token task a list with one tag a word, or of spans ``{"start", "end", "label"}``
    of the text. A label may be missing. Beside token tasks a text is split into words as `split_words` does. A pair of
    texts has the second as ``text_pair``, which has no tags.

    Args:
        data: By split - ``"train"``, ``"validation"``, ``"test"`` - a file, a folder of ``save_to_disk``, a dataset
            of ``datasets`` or a list of rows; or one `DataConfig` or several, whose rows are put together by split.
            Labels that a task does not name are read from train.
        tokenizer: A fast tokenizer, as `load_tokenizer` returns it.
        tasks: The tasks. One that has its labels may be in none of the datasets: no row has a label of it then.
        options: Further fields of `DataConfig`, such as ``max_length``, where ``data`` is a mapping.

    Returns:
        The datasets, the tasks with their labels, and what was cut or left out.

    Raises:
        ValueError: If something in the data is wrong. The message names file and line, what was expected and what
            was found.
    """
    configs = data_configs(data, options)
    loaded, tasks = load_datasets(configs, tasks)
    encoded = {
        (split, number): data_set.encode(data_set.rows[split], tasks)
        for number, data_set in enumerate(loaded)
        for split in data_set.rows
    }
    tasks = _balanced_tasks(tasks, [labels for (split, _), (labels, _) in encoded.items() if split == TRAIN])
    aligners = {split: build_aligner(tokenizer, tasks, configs[0], split) for split in SPLITS}
    prepared = PreparedData({}, tasks, origin=data_origin(loaded))
    for split in SPLITS:
        parts, report = [], PreparationReport()
        for number, data_set in enumerate(loaded):
            if (split, number) in encoded:
                labels, counted = encoded[split, number]
                data_set.reports[split].add(counted)
                part = _tokenized(data_set, split, labels, tasks, aligners[split])
                if split != TRAIN:
                    prepared.texts.setdefault(split, RowTexts()).add(data_set.rows[split].rows)
                parts.append(part.add_column(DATASET_COLUMN, [number] * len(part)) if len(loaded) > 1 else part)
            if split in data_set.reports:
                report.add(data_set.reports[split])
        if parts:
            joined = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
            if not (configs[0].truncate or report.windowed_rows):
                joined = joined.remove_columns("window_lengths")
            prepared.splits[split], prepared.reports[split] = joined, report
    if any(config.streams_train for config in configs):
        prepared.splits[TRAIN] = TrainingStream(
            [StreamedDataset(data_set, aligners[TRAIN], tasks) for data_set in loaded]
        )
    return prepared


def load_datasets(
    configs: Sequence[DataConfig], tasks: Sequence[TaskConfig]
) -> tuple[list[DatasetLoader], list[TaskConfig]]:
    """Read and check datasets, and fill in what tasks leave to their training rows.

    Args:
        configs: The datasets.
        tasks: The tasks.

    Returns:
        The datasets, their rows not encoded yet; the tasks with their labels.

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
    loaded = [DatasetLoader(config, tasks, streaming, name) for config, name in zip(configs, names, strict=True)]
    for data_set in loaded:
        data_set.split_off_validation()
    return loaded, _completed_tasks(tasks, loaded)


def build_aligner(
    tokenizer: PreTrainedTokenizerBase, tasks: Sequence[TaskConfig], config: DataConfig, split: str
) -> Aligner:
    """Return what tokenizes a split.

    Args:
        tokenizer: The tokenizer.
        tasks: The tasks, with their labels.
        config: A dataset; what says how rows are tokenized is the same in all of a run.
        split: The split.
    """
    # All subwords of a word are for training: a prediction has one.
    label_subwords = "first" if config.label_subwords == "all" and split != TRAIN else config.label_subwords
    return Aligner(tokenizer, tasks, config.max_length, config.overlap, config.truncate, label_subwords)


def check_task_names(configs: Sequence[DataConfig], tasks: Sequence[TaskConfig], learned: Collection[str]) -> None:
    """Check that datasets name tasks that there are, and that each task has a dataset where it needs one.

    Args:
        configs: The datasets.
        tasks: The tasks.
        learned: Names of tasks that need none.

    Raises:
        ValueError: If a dataset names another task, or no dataset has a task.
    """
    names = [task.name for task in tasks]
    for config in configs:
        for name in config.tasks or []:
            if name not in names:
                raise ValueError(f"data: {unknown_name_message('task', name, names)}")
    for name in names:
        if name not in learned and not any(config.tasks is None or name in config.tasks for config in configs):
            raise ValueError(f"data: no dataset has the task {name!r}; name it in the `tasks` of one.")


def _with_subword(task: TaskConfig, label_subwords: str) -> TaskConfig:
    """Note with a token task which subword of a word it reads, as the model predicts with it."""
    if not task.is_token_task:
        return task
    return dataclasses.replace(task, label_subword="last" if label_subwords == "last" else "first")


def _completed_tasks(tasks: Sequence[TaskConfig], loaded: Sequence[DatasetLoader]) -> list[TaskConfig]:
    """Fill in what tasks leave to the training rows; datasets must agree on it."""
    found: dict[str, list[tuple[str, TaskConfig]]] = {task.name: [] for task in tasks}
    for data_set in loaded:
        if TRAIN in data_set.sources:
            for name, task in data_set.scan().items():
                found[name].append((data_set.name_of(TRAIN), task))
        else:
            data_set.recognize_schemes()
    completed = []
    for task in tasks:
        if not found[task.name]:
            if task.labels is None and task.problem_type != REGRESSION:
                splits = ", ".join(split for data_set in loaded for split in data_set.sources)
                raise ValueError(
                    f"task {task.name!r} has no labels and there is no split 'train' to read them from, found "
                    f"{splits}."
                )
            completed.append(task)
            continue
        _refuse_disagreement(found[task.name])
        schemes = {data_set.schemes[task.name] for data_set in loaded if task.name in data_set.schemes}
        result = found[task.name][0][1]
        if task.is_token_task:
            result = dataclasses.replace(result, tag_scheme=schemes.pop() if len(schemes) == 1 else None)
        completed.append(result)
    return completed


def _refuse_disagreement(found: Sequence[tuple[str, TaskConfig]]) -> None:
    """Refuse datasets whose training rows make different tasks of one."""
    (first, expected), *others = found
    for source, task in others:
        if task.problem_type != expected.problem_type:
            raise ValueError(
                f"task {task.name!r}: {first} makes it a {expected.problem_type}, {source} a {task.problem_type}."
            )
        for here, there, holder, other in (
            (task, expected, source, first),
            (expected, task, first, source),
        ):
            if extra := sorted(set(here.labels or []) - set(there.labels or [])):
                shown = ", ".join(extra[:MAX_NAMES_SHOWN])
                raise ValueError(
                    f"task {task.name!r}: {holder} has labels that {other} does not have: {shown}. Rows of one data "
                    "set would teach that the other's labels do not occur. Name all `labels` in the task if that is "
                    "right, or make two tasks of it."
                )


def _balanced_tasks(tasks: Sequence[TaskConfig], train: Sequence[Sequence[Row]]) -> list[TaskConfig]:
    """Work out balanced class weights from the label ids of the training rows."""
    balanced = []
    for task in tasks:
        if task.class_weights == BALANCED:
            if not train:
                raise ValueError(
                    f"task {task.name!r}: class_weights={BALANCED!r} needs all rows of train at hand, which a stream "
                    "or an evaluation does not have; give the weights by label."
                )
            task = complete_class_weights(
                task, *label_counts(task, [row[task.name] for rows in train for row in rows])
            )
        balanced.append(task)
    return balanced


def _tokenized(
    data_set: DatasetLoader, split: str, labels: Sequence[Row], tasks: Sequence[TaskConfig], aligner: Aligner
) -> datasets.Dataset:
    """Tokenize a split, count what that does to its rows, and say what was lost."""
    name, report = data_set.name_of(split), data_set.reports[split]
    inputs = data_set.inputs(data_set.rows[split])
    dataset = tokenize(inputs, labels, tasks, aligner, data_set.config.num_proc, name)
    counted = [column for column in COUNTED_COLUMNS if column in dataset.column_names]
    wanted = [*counted, *(["window_lengths"] if "window_lengths" in dataset.column_names else [])]
    report.add_tokenised({column: dataset[column][:] for column in wanted})
    for line in report.losses():
        logger.warning("%s: %s.", name, line)
    return dataset.remove_columns(counted)
