"""The form of the tasks: a row of fields per task, which write the tasks as YAML and are filled from it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from ..models import TaskConfig
from .choices import parse_tasks
from .task_edits import FIELDS, KINDS, MAX_ROWS, add_task, change_task, remove_task, show_tasks


class TaskRow(NamedTuple):
    """Fields of a task.

    Args:
        group: All of them.
        name: Name of the task.
        kind: What it predicts, one of `KINDS`.
        column: Column with its labels.
        remove: Button that removes the task.
    """

    group: gr.Row
    name: gr.Textbox
    kind: gr.Dropdown
    column: gr.Dropdown
    remove: gr.Button


class TaskRows(NamedTuple):
    """Fields of all tasks.

    Args:
        rows: The fields, of which as many are visible as there are tasks.
        add: Button that adds a task.
    """

    rows: list[TaskRow]
    add: gr.Button

    def components(self) -> list[gr.components.Component]:
        """Return the components in the order of the updates of `show_tasks`."""
        return [item for row in self.rows for item in row] + [self.add]


def build_task_rows(tasks: Sequence[TaskConfig], columns: Sequence[str]) -> TaskRows:
    """Build the fields.

    Args:
        tasks: The tasks at first.
        columns: Columns of the data.
    """
    shown = show_tasks(tasks, columns)
    rows = []
    for i in range(MAX_ROWS):
        group_is, name_is, kind_is, column_is, remove_is = shown[FIELDS * i : FIELDS * (i + 1)]
        with gr.Row(**group_is, elem_id=f"task-{i}") as group:
            name = gr.Textbox(
                **name_is,
                label="Task",
                info="Any name.",
                min_width=140,
                elem_id=f"task-name-{i}",
            )
            kind = gr.Dropdown(
                list(KINDS),
                **kind_is,
                label="Predicts",
                info="Marks are names, places …",
                scale=2,
                min_width=200,
                elem_id=f"task-kind-{i}",
            )
            column = gr.Dropdown(
                **column_is,
                label="Column",
                info="It has the labels.",
                allow_custom_value=True,
                min_width=140,
                elem_id=f"task-column-{i}",
            )
            remove = gr.Button(
                f"Remove task {i + 1}", **remove_is, size="sm", scale=0, min_width=110, elem_id=f"remove-task-{i}"
            )
        rows.append(TaskRow(group, name, kind, column, remove))
    return TaskRows(rows, gr.Button("Add a task", **shown[-1], size="sm", elem_id="add-task"))


def connect_task_rows(
    fields: TaskRows,
    tasks: gr.Textbox,
    data: gr.Dropdown,
    columns: Callable[[str | None], list[str]],
    problem: gr.HTML,
    refuse: Callable[[Exception], str],
) -> list[Any]:
    """Connect the fields with the YAML, and return the events after which the YAML has changed.

    Args:
        fields: The fields.
        tasks: The YAML.
        data: Name of the data.
        columns: Returns the columns of data.
        problem: Message about the tasks.
        refuse: Returns the message of an error.
    """
    private = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [tasks, *fields.components(), problem]

    def updated(text: str, name: str | None) -> list[object]:
        updates = show_tasks(parse_tasks(text), columns(name))
        return [text, *(gr.update(**update) for update in updates), ""]

    def tried(change: Callable[..., str]) -> Callable[..., list[object]]:
        def apply(text: str, name: str | None, *values: Any) -> list[object]:
            try:
                return updated(change(text, name, *values), name)
            except ValueError as error:
                return [*[gr.skip()] * (len(outputs) - 1), refuse(error)]

        return apply

    events = [
        fields.add.click(tried(lambda text, name: add_task(text, columns(name))), [tasks, data], outputs, **private),
        tasks.blur(tried(lambda text, name: text), [tasks, data], outputs, **private),
    ]
    for i, row in enumerate(fields.rows):
        own = [row.name, row.kind, row.column]
        change = tried(lambda text, name, *values, i=i: change_task(text, i, *values))
        for event in (row.name.blur, row.kind.input, row.column.input):
            events.append(event(change, [tasks, data, *own], outputs, **private))
        remove = tried(lambda text, name, i=i: remove_task(text, i))
        events.append(row.remove.click(remove, [tasks, data], outputs, **private))
    return events
