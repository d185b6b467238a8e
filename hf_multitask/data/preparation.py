"""From rows to the tokenised, labelled data sets that the trainer takes."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from ..models.names import unknown_name
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .alignment import Aligner
from .checks import check_inputs, check_labels, read_numbers, words_of
from .file_formats import Columns
from .labels import LabelEncoder, complete_task
from .readers import read_rows
from .rows import Row, Rows
from .tags import complete_scheme, read_tags

logger = logging.getLogger(__name__)

TRAIN = "train"
LABEL_SUBWORDS = ("first", "all")
UNSEEN_LABELS = ("error", "ignore")


@dataclass
class SplitReport:
    """What became of the rows of a split.

    Args:
        rows: Number of rows.
        words: Number of words that token tasks label.
        truncated_rows: Rows cut at the longest length.
        lost_words: Words without a subword, cut off or dropped by the tokenizer: predicted as ``O`` and scored.
        unlabelled_rows: By task, the rows without a label.
        unseen_labels: By task, how often each label occurs that the task does not have.
        broken_tags: By token task, the rows whose tags break the rule of their scheme.
    """

    rows: int
    words: int
    truncated_rows: int
    lost_words: int
    unlabelled_rows: dict[str, int]
    unseen_labels: dict[str, Counter]
    broken_tags: dict[str, int] = field(default_factory=dict)

    def losses(self) -> list[str]:
        """Say what was cut, dropped or left out, one line each; nothing where all is whole."""
        lines = []
        if self.truncated_rows:
            lines.append(f"{self.truncated_rows} of {self.rows} rows cut at the longest length")
        if self.lost_words:
            lines.append(f"{self.lost_words} of {self.words} words have no subword: predicted as O, and scored")
        for task, count in self.unlabelled_rows.items():
            if count:
                lines.append(f"{count} of {self.rows} rows have no label for {task!r}")
        for task, count in self.broken_tags.items():
            if count:
                lines.append(f"{count} of {self.rows} rows have tags of {task!r} that break their scheme's rule")
        for task, unseen in self.unseen_labels.items():
            if unseen:
                lines.append(f"{unseen.total()} labels of {task!r} ignored: {', '.join(sorted(unseen))}")
        return lines


@dataclass
class PreparedData:
    """Tokenised, labelled splits, and the tasks with the labels that were read.

    Args:
        splits: The data sets by split.
        tasks: The tasks, each with its labels.
        reports: What became of the rows, by split.
    """

    splits: datasets.DatasetDict
    tasks: list[TaskConfig]
    reports: dict[str, SplitReport] = field(default_factory=dict)

    def __getitem__(self, split: str) -> datasets.Dataset:
        """Return a split."""
        if split not in self.splits:
            raise KeyError(unknown_name("split", split, self.splits))
        return self.splits[split]

    def get(self, split: str) -> datasets.Dataset | None:
        """Return a split, None where there is none."""
        return self.splits.get(split)


def prepare_datasets(
    data: Mapping[str, str | Path | datasets.Dataset | Sequence[Row]],
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
    max_length: int | None = None,
    label_subwords: str = "first",
    unseen_labels: str = "error",
    format: str | None = None,
    columns: Columns | None = None,
) -> PreparedData:
    """Read, check, tokenise and align the splits of a data set.

    A row has ``tokens`` (a list of words) or ``text``, and a column for each task: a string, a list of strings or a
    number for a sequence task, a list with one tag a word for a token task. A label may be missing.

    Args:
        data: By split, a file, a folder of ``save_to_disk``, a ``datasets.Dataset`` or a list of rows; see
            `read_rows`. Labels that a task does not name are read from ``"train"``.
        tokenizer: A fast tokenizer, as `load_tokenizer` returns it.
        tasks: The tasks.
        max_length: Longest sequence in subwords; what the tokenizer says where None.
        label_subwords: Which subwords of a word are trained on: the ``"first"``, or ``"all"`` (I- behind the first).
            Prediction reads the first.
        unseen_labels: What to do with a label that train never has: ``"error"``, or ``"ignore"`` (it counts for no
            loss and no score).
        format: The files' format; by their extension where None.
        columns: By our name of a column, its name in the files, or its number in CoNLL files: ``{"tokens": 0,
            "ner": 3}``.

    Returns:
        The data sets, the tasks with their labels, and what was cut or left out.

    Raises:
        ValueError: If something in the data is wrong. The message names file and line, what was expected and what
            was found.
    """
    for name, value, allowed in (
        ("label_subwords", label_subwords, LABEL_SUBWORDS),
        ("unseen_labels", unseen_labels, UNSEEN_LABELS),
    ):
        if value not in allowed:
            raise ValueError(unknown_name(name, value, allowed))
    if not data:
        raise ValueError("data has no split; expected at least one, such as {'train': 'train.jsonl'}.")
    rows = {split: read_rows(source, split, format, columns) for split, source in data.items()}
    for split_rows in rows.values():
        check_inputs(split_rows)
        read_numbers(split_rows, tasks)
        check_labels(split_rows, tasks)
    told_by = [rows[TRAIN]] if TRAIN in rows else list(rows.values())
    tasks = [complete_scheme(task, told_by) if task.is_token_task else task for task in tasks]
    broken = {
        split: {task.name: read_tags(task, split_rows) for task in tasks if task.is_token_task}
        for split, split_rows in rows.items()
    }
    tasks = _completed_tasks(tasks, rows)
    splits, reports = datasets.DatasetDict(), {}
    for split, split_rows in rows.items():
        aligner = Aligner(
            tokenizer, tasks, max_length or tokenizer.model_max_length, label_subwords if split == TRAIN else "first"
        )
        splits[split], reports[split] = _prepare_split(split_rows, tasks, aligner, unseen_labels)
        reports[split].broken_tags = broken[split]
        for line in reports[split].losses():
            logger.warning("%s: %s.", split_rows.source, line)
    return PreparedData(splits, tasks, reports)


def _completed_tasks(tasks: Sequence[TaskConfig], rows: Mapping[str, Rows]) -> list[TaskConfig]:
    if TRAIN in rows:
        return [complete_task(task, rows[TRAIN]) for task in tasks]
    for task in tasks:
        if task.labels is None and task.problem_type != REGRESSION:
            raise ValueError(
                f"task {task.name!r} has no labels and there is no split 'train' to read them from, found "
                f"{', '.join(rows)}."
            )
    return list(tasks)


def _prepare_split(
    rows: Rows, tasks: Sequence[TaskConfig], aligner: Aligner, unseen_labels: str
) -> tuple[datasets.Dataset, SplitReport]:
    labels, unseen = LabelEncoder(tasks, unseen_labels).encode(rows)
    words = [words_of(row) for row in rows.rows]
    label_features = {task.name: _label_feature(task) for task in tasks}
    features = datasets.Features({"words": datasets.List(datasets.Value("string")), "labels": label_features})
    dataset = datasets.Dataset.from_dict({"words": words, "labels": labels}, features=features)
    dataset = dataset.map(aligner, batched=True, remove_columns=["words"], desc=f"Aligning {rows.source}")
    report = SplitReport(
        rows=len(dataset),
        words=sum(len(row) for row in words) if aligner.token_tasks else 0,
        truncated_rows=sum(dataset["truncated"]),
        lost_words=sum(dataset["lost_words"]) if aligner.token_tasks else 0,
        unlabelled_rows={task.name: sum(row.get(str(task.column)) is None for row in rows.rows) for task in tasks},
        unseen_labels=unseen,
    )
    return dataset.remove_columns(["truncated", *(["lost_words"] if aligner.token_tasks else [])]), report


def _label_feature(task: TaskConfig) -> Any:
    if task.is_token_task:
        return datasets.List(datasets.Value("int64"))
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return datasets.List(datasets.Value("float32"))
    return datasets.Value("int64")
