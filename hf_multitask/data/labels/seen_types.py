"""Entity types that training rows have with each label of another task."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...models.losses import IGNORE_INDEX
from ...models.tags_iob2 import entity_type
from ...models.tasks import SINGLE_LABEL, TaskConfig


@dataclass(frozen=True)
class SeenTypes:
    """Number of training rows with each entity type, by their label of another task.

    Args:
        rows: Number of rows that have labels of both tasks.
        counts: Number of these rows by label and entity type. A label without rows is left out.
    """

    rows: int
    counts: Mapping[str, Mapping[str, int]]

    @property
    def types_by_label(self) -> dict[str, list[str]]:
        """Entity types by label."""
        return {label: sorted(counts) for label, counts in self.counts.items()}

    @property
    def pairs(self) -> int:
        """Number of different pairs of a label and an entity type."""
        return sum(map(len, self.counts.values()))

    @property
    def possible_pairs(self) -> int:
        """Number of pairs of a label and an entity type that occurs with any label."""
        return len(self.counts) * len({kind for counts in self.counts.values() for kind in counts})

    @property
    def has_unseen_pairs(self) -> bool:
        """Whether a label was not seen with one of the entity types."""
        return self.pairs < self.possible_pairs

    @property
    def unseen_share(self) -> float:
        """Estimated share of new rows that have an entity type which no training row has with the label.

        It is the number of pairs that only one training row has, per row (Good 1953, The Population Frequencies of
        Species). One more is counted, because no such pair in few rows says little.
        """
        once = sum(count == 1 for counts in self.counts.values() for count in counts.values())
        return min((once + 1) / self.rows, 1.0)


def count_seen_types(
    tasks: Sequence[TaskConfig], labels: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, SeenTypes]]:
    """Count the entity types of the training rows, by their labels of single-label tasks.

    Args:
        tasks: The tasks, with their labels.
        labels: Encoded labels of each row by task, as `LabelEncoder` returns them.

    Returns:
        The counts by token task, then by single-label task.
    """
    token_tasks = {task.name: [entity_type(tag) for tag in task.labels or ()] for task in tasks if task.is_token_task}
    text_tasks = {task.name: task.labels or [] for task in tasks if task.problem_type == SINGLE_LABEL}
    if not token_tasks or not text_tasks:
        return {}
    rows: Counter[tuple[str, str]] = Counter()
    counts: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for row in labels:
        of_text = {name: names[row[name]] for name, names in text_tasks.items() if row[name] != IGNORE_INDEX}
        for token_task, kinds in token_tasks.items():
            tags = {tag for tag in row[token_task] if tag != IGNORE_INDEX}
            if not tags:
                continue
            found = [kind for kind in {kinds[tag] for tag in tags} if kind is not None]
            for text_task, label in of_text.items():
                rows[token_task, text_task] += 1
                counts.setdefault((token_task, text_task), {}).setdefault(label, Counter()).update(found)
    seen: dict[str, dict[str, SeenTypes]] = {}
    for (token_task, text_task), by_label in counts.items():
        seen.setdefault(token_task, {})[text_task] = SeenTypes(rows[token_task, text_task], by_label)
    return seen


def with_seen_types(task: TaskConfig, seen: Mapping[str, SeenTypes]) -> TaskConfig:
    """Add the entity types of the training rows to those of a task by label, and estimate the share of others.

    Args:
        task: The task.
        seen: Counts by the task that may constrain it.

    Returns:
        The task; unchanged if it is not constrained by one of these tasks.
    """
    if task.constrained_by not in seen:
        return task
    types = {label: set(kinds) for label, kinds in (task.types_by_label or {}).items()}
    of_train = seen[str(task.constrained_by)]
    for label, kinds in of_train.types_by_label.items():
        types.setdefault(label, set()).update(kinds)
    types_by_label = {label: sorted(kinds) for label, kinds in types.items()}
    share = of_train.unseen_share if task.unseen_types_share is None else task.unseen_types_share
    return replace(task, types_by_label=types_by_label, unseen_types_share=share)
