"""Inspection of datasets: counts, lengths and duplicates, before any training."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ...models.encoder_loading import load_tokenizer
from ...models.tasks import TaskConfig
from ...models.type_aliases import JsonObject
from ..config import SPLITS, DataConfig
from ..dataset_loader import ROWS_AT_ONCE, TRAIN, DatasetLoader
from ..preparation import build_aligner, load_datasets
from ..preparation_report import PreparationReport
from ..readers.rows import Rows
from .split_inspector import RowSample, SplitInspection, SplitInspector


@dataclass
class DatasetInspection:
    """One dataset.

    Args:
        splits: Its splits by name.
        samples: The first of its training rows.
    """

    splits: dict[str, SplitInspection]
    samples: list[RowSample]

    @property
    def tasks(self) -> list[str]:
        """The names of its tasks."""
        return list(self.splits[TRAIN].tasks)

    def shown_labels(self, task: str, most: int) -> tuple[list[str], list[str]]:
        """Choose the labels of a task to show where there are many: the most frequent of train, and the least.

        Args:
            task: Name of the task.
            most: Number of labels to show.

        Returns:
            The labels to show, by falling frequency, and those in their middle that are left out.
        """
        found = dict.fromkeys(label for split in self.splits.values() for label in split.tasks[task].labels)
        in_train = self.splits[TRAIN].tasks[task].labels
        labels = sorted(found, key=lambda label: -in_train.get(label, 0))
        if len(labels) <= most:
            return labels, []
        first, last = most - most // 2, len(labels) - most // 2
        return labels[:first] + labels[last:], labels[first:last]


@dataclass
class DataInspection:
    """What the data of a config is.

    Args:
        encoder: The encoder whose tokenizer was used.
        max_length: Longest sequence in subwords, None where there is no limit.
        unknown_token: The tokenizer's unknown token, None where it has none.
        task_types: By task, its type, or its problem type for a sequence task.
        data_sets: The datasets.
    """

    encoder: str
    max_length: int | None
    unknown_token: str | None
    task_types: dict[str, str]
    data_sets: list[DatasetInspection]

    def to_dict(self) -> JsonObject:
        """Return all of it as a mapping that JSON can hold."""
        return asdict(self)


def inspect_datasets(
    encoder: str, tasks: Sequence[TaskConfig], configs: Sequence[DataConfig], num_rows: int
) -> DataInspection:
    """Read datasets as a training would, and count what is in them.

    Args:
        encoder: Hub name or folder of the encoder, of which only the tokenizer is loaded.
        tasks: The tasks.
        configs: The datasets.
        num_rows: Number of training rows of each dataset to show.

    Returns:
        The counts.

    Raises:
        ValueError: If something in the data is wrong.
    """
    tokenizer = load_tokenizer(encoder)
    loaded, tasks = load_datasets(configs, tasks)
    counted: list[dict[str, SplitInspector]] = []
    for data_set in loaded:
        counted.append({})
        for split in (split for split in SPLITS if split in data_set.sources):
            aligner = build_aligner(tokenizer, tasks, data_set.config, split)
            counts = SplitInspector(data_set, split, tasks, aligner, num_rows if split == TRAIN else 0)
            for rows in _parts(data_set, split, counts.report):
                counts.add(rows)
            counted[-1][split] = counts
    return DataInspection(
        encoder=encoder,
        max_length=counted[0][TRAIN].aligner.max_length,
        unknown_token=tokenizer.unk_token,
        task_types={task.name: str(task.problem_type or task.type) for task in tasks},
        data_sets=_results(counted),
    )


def _parts(data_set: DatasetLoader, split: str, report: PreparationReport) -> Iterator[Rows]:
    """Yield the checked rows of a split in parts, and note with the report what checking has counted."""
    if split in data_set.rows:
        report.add(data_set.reports[split])
        rows = data_set.rows[split]
        for start in range(0, len(rows.rows), ROWS_AT_ONCE):
            yield rows.take(range(start, min(start + ROWS_AT_ONCE, len(rows.rows))))
        return
    for rows in data_set.chunks(split):
        report.add(data_set.check(rows))
        yield rows


def _results(counted: Sequence[Mapping[str, SplitInspector]]) -> list[DatasetInspection]:
    """Compare the splits of all datasets with each other, and return what each holds."""
    in_train: dict[str, Counter[str]] = {}
    for counts in counted:
        for task, labels in counts[TRAIN].labels.items():
            in_train.setdefault(task, Counter()).update(labels)
    keys = {split: [counts[split].keys for counts in counted if split in counts] for split in SPLITS}
    results = []
    for counts in counted:
        splits = {}
        for split in counts:
            earlier = {other: keys[other] for other in SPLITS[: SPLITS.index(split)] if keys[other]}
            splits[split] = counts[split].result(earlier, in_train)
        results.append(DatasetInspection(splits, counts[TRAIN].samples))
    return results
