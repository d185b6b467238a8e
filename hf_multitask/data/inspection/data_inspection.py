"""Inspection of datasets: counts, lengths and duplicates, before any training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedTokenizerBase

from ...models.tasks import TaskConfig
from ...models.type_aliases import JsonObject
from ..config import SPLITS, DataConfig
from ..dataset_loader import TRAIN
from ..preparation import build_aligner, load_datasets
from .split_inspector import RowSample, SplitInspection, SplitInspector


@dataclass
class DatasetInspection:
    """Inspection of one dataset.

    Args:
        splits: Inspections of the splits by name.
        samples: The first training rows.
    """

    splits: dict[str, SplitInspection]
    samples: list[RowSample]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(self.splits[TRAIN].tasks)

    def shown_labels(self, task: str, max_labels: int) -> tuple[list[str], list[str]]:
        """Select the labels of a task to show: the most and the least frequent in train.

        Args:
            task: Name of the task.
            max_labels: Maximum number of labels to show.

        Returns:
            The labels to show, in order of decreasing frequency, and the labels between them that are left out.
        """
        occurring = dict.fromkeys(label for split in self.splits.values() for label in split.tasks[task].labels)
        in_train = self.splits[TRAIN].tasks[task].labels
        labels = sorted(occurring, key=lambda label: -in_train.get(label, 0))
        if len(labels) <= max_labels:
            return labels, []
        first, last = max_labels - max_labels // 2, len(labels) - max_labels // 2
        return labels[:first] + labels[last:], labels[first:last]


@dataclass
class DataInspection:
    """Inspection of all datasets of a run.

    Args:
        encoder: The encoder whose tokenizer was used.
        max_length: Maximum sequence length in subwords; None if it is not limited.
        unknown_token: The tokenizer's unknown token; None if it has none.
        task_types: Type of each task; the problem type for a sequence task.
        datasets: The datasets.
    """

    encoder: str
    max_length: int | None
    unknown_token: str | None
    task_types: dict[str, str]
    datasets: list[DatasetInspection]

    def to_dict(self) -> JsonObject:
        """Return the inspection as a JSON object."""
        values = asdict(self)
        # The key that `hf-multitask inspect` has always written.
        values["data_sets"] = values.pop("datasets")
        return values


def inspect_datasets(
    encoder: str,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
    configs: Sequence[DataConfig],
    num_rows: int,
) -> DataInspection:
    """Prepare datasets as a training does, and count what is in them.

    Args:
        encoder: Hub name or folder of the encoder.
        tokenizer: Its tokenizer.
        tasks: The tasks.
        configs: The datasets.
        num_rows: Number of training rows of each dataset to show.

    Returns:
        The counts.

    Raises:
        ValueError: If something in the data is wrong.
    """
    loaders, tasks = load_datasets(configs, tasks)
    inspectors: list[dict[str, SplitInspector]] = []
    for loader in loaders:
        by_split = {}
        for split in (split for split in SPLITS if split in loader.sources):
            aligner = build_aligner(tokenizer, tasks, loader.config, split)
            by_split[split] = SplitInspector(loader, split, tasks, aligner, num_rows if split == TRAIN else 0)
            for part in loader.parts(split):
                by_split[split].add(part)
        inspectors.append(by_split)
    return DataInspection(
        encoder=encoder,
        max_length=inspectors[0][TRAIN].aligner.max_length,
        unknown_token=tokenizer.unk_token,
        task_types={task.name: str(task.problem_type or task.type) for task in tasks},
        datasets=_results(inspectors),
    )


def _results(inspectors: Sequence[Mapping[str, SplitInspector]]) -> list[DatasetInspection]:
    """Compare the splits of all datasets with each other, and return the counts of each dataset."""
    in_train: dict[str, Counter[str]] = {}
    for by_split in inspectors:
        for task, labels in by_split[TRAIN].labels.items():
            in_train.setdefault(task, Counter()).update(labels)
    keys = {split: [by_split[split].keys for by_split in inspectors if split in by_split] for split in SPLITS}
    results = []
    for by_split in inspectors:
        splits = {}
        for split, inspector in by_split.items():
            earlier = {other: keys[other] for other in SPLITS[: SPLITS.index(split)] if keys[other]}
            splits[split] = inspector.result(earlier, in_train)
        results.append(DatasetInspection(splits, by_split[TRAIN].samples))
    return results
