"""Tasks as YAML, changed field by field as in a form."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..data.guessing.file_guess import task_name
from ..models import TaskConfig
from ..models.tasks import MULTI_LABEL, REGRESSION, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from .choices import parse_tasks, tasks_as_yaml

# More tasks than these are edited as YAML.
MAX_ROWS = 6
# Number of components of a task.
FIELDS = 5
ONE_LABEL, SEVERAL_LABELS, NUMBER, TAGS = (
    "one label per text",
    "several labels per text",
    "a number per text",
    "marks on words",
)
KINDS = (ONE_LABEL, SEVERAL_LABELS, NUMBER, TAGS)
_PROBLEM_TYPES = {SEVERAL_LABELS: MULTI_LABEL, NUMBER: REGRESSION}


def show_tasks(tasks: Sequence[TaskConfig], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the properties of the components of a form: those of each task, and of the button that adds one.

    Args:
        tasks: The tasks.
        columns: Columns of the data.
    """
    updates: list[dict[str, Any]] = []
    choices = [name for name in columns if name not in (TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN)]
    for i in range(MAX_ROWS):
        if i >= len(tasks):
            updates += [{"visible": False}, {"value": ""}, {"value": None}, {"value": None}, {"interactive": False}]
            continue
        task = tasks[i]
        own = [*choices, *([] if task.column in choices else [task.column])]
        updates += [
            {"visible": True},
            {"value": task.name},
            {"value": kind_of(task)},
            {"choices": own, "value": task.column},
            {"interactive": len(tasks) > 1},
        ]
    return [*updates, {"interactive": len(tasks) < MAX_ROWS}]


def kind_of(task: TaskConfig) -> str:
    """Return what a task predicts, one of `KINDS`."""
    if task.is_token_task:
        return TAGS
    return next((kind for kind, value in _PROBLEM_TYPES.items() if value == task.problem_type), ONE_LABEL)


def change_task(text: str, number: int, name: str, kind: str, column: str) -> str:
    """Return the tasks as YAML after the fields of one were changed; its other fields stay.

    Args:
        text: The tasks as YAML.
        number: Index of the task.
        name: Its name.
        kind: What it predicts.
        column: Its column.

    Raises:
        ValueError: If the tasks are not valid.
    """
    tasks = parse_tasks(text)
    old = tasks[number]
    if kind != kind_of(old):
        # What belongs to another kind of task is dropped.
        old = TaskConfig(old.name, TOKEN_CLASSIFICATION if kind == TAGS else SEQUENCE_CLASSIFICATION)
        old.problem_type = _PROBLEM_TYPES.get(kind)
    tasks[number] = replace(old, name=name.strip(), column=(column or "").strip() or name.strip())
    return tasks_as_yaml(tasks)


def add_task(text: str, columns: Sequence[str]) -> str:
    """Return the tasks as YAML with one more, of the first column that no task has.

    Args:
        text: The tasks as YAML.
        columns: Columns of the data.

    Raises:
        ValueError: If the tasks are not valid.
    """
    tasks = parse_tasks(text)
    inputs = (TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN)
    free = [name for name in columns if name not in inputs and name not in {task.column for task in tasks}]
    column = free[0] if free else f"column_{len(tasks) + 1}"
    name, number = task_name(column), 2
    while name in {task.name for task in tasks}:
        name, number = f"{task_name(column)}_{number}", number + 1
    return tasks_as_yaml([*tasks, TaskConfig(name, SEQUENCE_CLASSIFICATION, column=column)])


def remove_task(text: str, number: int) -> str:
    """Return the tasks as YAML without one of them.

    Raises:
        ValueError: If the tasks are not valid, or it is the only one.
    """
    tasks = parse_tasks(text)
    if len(tasks) == 1:
        raise ValueError("tasks: a model needs at least one task.")
    return tasks_as_yaml([*tasks[:number], *tasks[number + 1 :]])
