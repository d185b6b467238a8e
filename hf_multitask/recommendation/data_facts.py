"""What the data of a config are, as far as rules ask."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..data.dataset_loader import TRAIN, VALIDATION
from ..data.inspection.data_inspection import DataInspection
from ..data.inspection.split_inspector import SplitInspection
from ..models.tasks import REGRESSION, TOKEN_CLASSIFICATION
from ..runs.config import RunConfig
from ..runs.inspection import inspect_data

# Of so many of the first training rows of each dataset, some are taken evenly, however they are ordered.
ROWS_LOOKED_AT = 2000
MAX_TEXTS = 256


@dataclass(frozen=True)
class TaskFacts:
    """The labels of a task in train.

    Args:
        name: Its name.
        kind: Its type, or its problem type for a sequence task.
        labelled_rows: Rows with a label.
        label_counts: How often each label occurs.
    """

    name: str
    kind: str
    labelled_rows: int
    label_counts: dict[str, int]

    @property
    def is_token_task(self) -> bool:
        """Whether it labels words."""
        return self.kind == TOKEN_CLASSIFICATION

    @property
    def imbalance(self) -> float:
        """How many times as often as the rarest label the commonest occurs; 1 where labels are no rows' labels."""
        counts = [count for count in self.label_counts.values() if count]
        if self.is_token_task or self.kind == REGRESSION or not counts:
            return 1.0
        return max(counts) / min(counts)


@dataclass(frozen=True)
class DataFacts:
    """The rows of all datasets of a config.

    Args:
        tasks: The tasks, in the order of the config.
        rows: Training rows.
        subwords: Their subwords, special tokens included.
        validation_subwords: Those of the validation rows.
        max_length: Longest sequence in subwords, None where there is no limit.
        cut_share: Share of the training rows that are longer.
        subwords_per_word: Mean number of subwords of a word in train.
        unknown_share: Share of the subwords that are the tokenizer's unknown token.
        texts: Some of the training rows.
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
    """Read the data of a config as `inspect` does.

    Args:
        config: The config.

    Returns:
        The facts.

    Raises:
        ValueError: If something in the data is wrong, or train has no label of a task.
    """
    # Weights of labels are worked out for a training, not for a look.
    tasks = [replace(task, class_weights=None) for task in config.tasks]
    inspection = inspect_data(replace(config, tasks=tasks), ROWS_LOOKED_AT)
    train = [data_set.splits[TRAIN] for data_set in inspection.datasets]
    validation = [data_set.splits[VALIDATION] for data_set in inspection.datasets if VALIDATION in data_set.splits]
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
        if not task.labelled_rows:
            raise ValueError(
                f"task {task.name!r}: no row of train has a label for it; expected at least one to advise on. Leave "
                "the task out, or label some rows."
            )
    return facts


def evenly(items: Sequence[str], most: int) -> list[str]:
    """Return so many items at the most, at even distances."""
    step = max(len(items) / most, 1)
    return [items[int(i * step)] for i in range(min(most, len(items)))]


def _task_facts(name: str, kind: str, train: Iterable[SplitInspection]) -> TaskFacts:
    labelled, counts = 0, Counter[str]()
    for split in train:
        if name in split.tasks:
            labelled += split.rows - split.tasks[name].unlabelled_rows
            counts.update(split.tasks[name].labels)
    return TaskFacts(name, kind, labelled, dict(counts))


def _texts(inspection: DataInspection) -> list[str]:
    each = max(MAX_TEXTS // len(inspection.datasets), 1)
    return [
        text
        for data_set in inspection.datasets
        for text in evenly([" ".join(sample.words) for sample in data_set.samples], each)
    ]
