"""Facts about the data of a config that the rules need."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..data.dataset_loader import TRAIN, VALIDATION
from ..data.inspection.data_inspection import DataInspection
from ..data.inspection.split_inspector import SplitInspection
from ..models.tasks import REGRESSION, TOKEN_CLASSIFICATION
from ..runs.config import RunConfig
from ..runs.inspection import inspect_data

T = TypeVar("T")

# Texts are sampled evenly from this many first training rows of each dataset, so that the order matters little.
SAMPLED_ROWS = 2000
MAX_TEXTS = 256


@dataclass(frozen=True)
class TaskFacts:
    """Training labels of a task.

    Args:
        name: Name of the task.
        kind: Type of the task; for a sequence task, its problem type.
        labeled_rows: Number of rows with a label.
        label_counts: Number of occurrences of each label.
    """

    name: str
    kind: str
    labeled_rows: int
    label_counts: dict[str, int]

    @property
    def is_token_task(self) -> bool:
        """Whether the task labels words."""
        return self.kind == TOKEN_CLASSIFICATION

    @property
    def rows_per_label(self) -> float:
        """Mean number of labeled rows of a label; infinity for token tasks and regressions."""
        counts = self._counts_of_texts
        return self.labeled_rows / len(counts) if counts else math.inf

    @property
    def imbalance(self) -> float:
        """Ratio of the most frequent to the rarest label; 1 for token tasks and regressions."""
        counts = self._counts_of_texts
        return max(counts) / min(counts) if counts else 1.0

    @property
    def _counts_of_texts(self) -> list[int]:
        """Number of texts with each label that occurs; empty for token tasks and regressions."""
        if self.is_token_task or self.kind == REGRESSION:
            return []
        return [count for count in self.label_counts.values() if count]


@dataclass(frozen=True)
class DataFacts:
    """Facts about the rows of all datasets of a config.

    Args:
        tasks: Facts about the tasks, in the order of the config.
        rows: Number of training rows.
        subwords: Number of subwords of the training rows, including special tokens.
        validation_subwords: Number of subwords of the validation rows, including special tokens.
        max_length: Maximum sequence length in subwords; None if there is no limit.
        cut_share: Share of the training rows that are longer than `max_length`.
        subwords_per_word: Mean number of subwords per word of the training rows.
        unknown_share: Share of the subwords that are the tokenizer's unknown token.
        texts: Sample of the training texts.
    """

    tasks: list[TaskFacts]
    rows: int
    subwords: int
    validation_subwords: int
    max_length: int | None
    cut_share: float
    subwords_per_word: float
    unknown_share: float
    texts: list[str]

    @property
    def has_validation(self) -> bool:
        """Whether there are validation rows."""
        return self.validation_subwords > 0


def collect_facts(config: RunConfig) -> DataFacts:
    """Read the data of a config as `inspect_data` does.

    Args:
        config: The config.

    Returns:
        The facts.

    Raises:
        ValueError: If the data is invalid, or no training row has a label of a task.
    """
    # Only a training needs class weights.
    tasks = [replace(task, class_weights=None) for task in config.tasks]
    inspection = inspect_data(replace(config, tasks=tasks), SAMPLED_ROWS)
    train = [dataset.splits[TRAIN] for dataset in inspection.datasets]
    validation = [dataset.splits[VALIDATION] for dataset in inspection.datasets if VALIDATION in dataset.splits]
    facts = DataFacts(
        tasks=[_task_facts(name, kind, train) for name, kind in inspection.task_types.items()],
        rows=sum(split.rows for split in train),
        subwords=sum(split.subword_lengths.total for split in train),
        validation_subwords=sum(split.subword_lengths.total for split in validation),
        max_length=inspection.max_length,
        cut_share=sum(split.windowed_rows + split.truncated_rows for split in train) / sum(s.rows for s in train),
        subwords_per_word=sum(split.subwords for split in train) / max(sum(split.words for split in train), 1),
        unknown_share=sum(split.unknown_subwords for split in train) / max(sum(s.subwords for s in train), 1),
        texts=_texts(inspection),
    )
    for task in facts.tasks:
        if not task.labeled_rows:
            raise ValueError(
                f"task {task.name!r}: no row of train has a label for it; expected at least one to base a "
                "recommendation on. Remove the task, or label some rows."
            )
    return facts


def evenly_spaced(items: Sequence[T], max_items: int) -> list[T]:
    """Return at most `max_items` of the items, evenly spaced."""
    step = max(len(items) / max_items, 1)
    return [items[int(i * step)] for i in range(min(max_items, len(items)))]


def _task_facts(name: str, kind: str, train: Iterable[SplitInspection]) -> TaskFacts:
    labeled, counts = 0, Counter[str]()
    for split in train:
        if name in split.tasks:
            labeled += split.rows - split.tasks[name].unlabelled_rows
            counts.update(split.tasks[name].labels)
    return TaskFacts(name, kind, labeled, dict(counts))


def _texts(inspection: DataInspection) -> list[str]:
    per_dataset = max(MAX_TEXTS // len(inspection.datasets), 1)
    return [
        text
        for dataset in inspection.datasets
        for text in evenly_spaced([" ".join(sample.words) for sample in dataset.samples], per_dataset)
    ]
