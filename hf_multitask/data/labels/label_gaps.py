"""Labels that the rows of a training lack: classes that train never has, tasks that validation does not score."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...models.messages import MAX_NAMES_SHOWN
from ...models.tasks import REGRESSION, TaskConfig
from .class_balance import label_counts

TRAIN, VALIDATION = "train", "validation"


def find_label_gaps(tasks: Sequence[TaskConfig], labels: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return a line for each gap in the labels of a training.

    Args:
        tasks: The tasks, complete.
        labels: By split, the encoded labels of each row by task. A train that is streamed is left out.

    Returns:
        The lines. Tasks without any label in train, which a model may keep from an earlier training, have none.

    Raises:
        ValueError: If no row of validation has a label of any task that train has labels for.
    """
    classified = [task for task in tasks if task.problem_type != REGRESSION]
    counts = {
        split: {task.name: label_counts(task, [row[task.name] for row in rows]) for task in classified}
        for split, rows in labels.items()
    }
    trained = [task for task in classified if TRAIN in counts and counts[TRAIN][task.name][1]]
    lines = []
    for task in trained:
        seen = {_class_of(task, label) for label, count in counts[TRAIN][task.name][0].items() if count}
        classes = dict.fromkeys(_class_of(task, label) for label in task.labels or ())
        if unseen := [name for name in classes if name not in seen]:
            shown = ", ".join(unseen[:MAX_NAMES_SHOWN]) + (" and more" if len(unseen) > MAX_NAMES_SHOWN else "")
            lines.append(f"train: no row has the labels {shown} of task {task.name!r}: they will not be learned")
    if VALIDATION in counts:
        unscored = [task.name for task in trained if not counts[VALIDATION][task.name][1]]
        if unscored and len(unscored) == len(tasks):
            raise ValueError(
                "validation: no row has a label of any task, so that no evaluation could score the training; give "
                "validation rows with labels, or leave validation out."
            )
        lines += [f"validation: no row has a label of task {name!r}: evaluations do not score it" for name in unscored]
    return lines


def _class_of(task: TaskConfig, label: str) -> str:
    """Return the entity type of a tag, or the label itself."""
    return label[2:] if task.is_token_task and label[:2] in ("B-", "I-") else label
