"""Checks of rows that need no label sets: columns, words, types."""

from collections.abc import Sequence

from ...models.messages import unknown_name_message
from ...models.tasks import TaskConfig
from ...models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN, check_characters, check_input
from ...models.type_aliases import Row
from ..readers.rows import Rows


def words_of(row: Row) -> list[str]:
    """Return the words of a row. A text that is not split into words counts as one word."""
    return row.get(TOKENS_COLUMN) or [row[TEXT_COLUMN]]


def check_columns(rows: Rows, tasks: Sequence[TaskConfig], hint: str = "") -> None:
    """Raise if the rows lack the column of a task.

    Args:
        rows: Rows of a split, or its first rows.
        tasks: The tasks.
        hint: What else may be wrong, for the message.

    Raises:
        ValueError: If no row has the column of a task. The message names the closest column.
    """
    columns = rows.columns
    found = [task.name for task in tasks if task.column in columns]
    if found:
        hint = f" If the rows have no labels for it, give the `tasks` that they have labels for: {', '.join(found)}."
    for task in tasks:
        if task.column not in columns:
            raise ValueError(
                f"{rows.source}: task {task.name!r}: {unknown_name_message('column', task.column, columns)}{hint}"
            )


def check_inputs(rows: Rows) -> None:
    """Raise if a row has neither words nor a text, or its second text is invalid.

    Args:
        rows: The rows of a split.

    Raises:
        ValueError: If a row has neither ``tokens`` nor ``text``, or one of them or ``text_pair`` is empty or of
            another type. The message names file and line.
    """
    for i, row in enumerate(rows.rows):
        try:
            check_input(row, rows.place(i))
        except ValueError as error:
            if {TOKENS_COLUMN, TEXT_COLUMN} & row.keys() or not row:
                raise
            name = next((name for name, value in row.items() if isinstance(value, str)), next(iter(row)))
            hint = f"If one of them is the text, name it in `columns`, such as {{'text': {name!r}}}."
            raise ValueError(f"{error} {hint}") from None


def check_labels(rows: Rows, tasks: Sequence[TaskConfig]) -> None:
    """Raise if the column of a task contains a value that does not fit it.

    Args:
        rows: The rows.
        tasks: The tasks.

    Raises:
        ValueError: If a value does not fit its task. The message names file and line.
    """
    for task in tasks:
        check = _check_tags if task.is_token_task else _check_label
        for i, row in enumerate(rows.rows):
            value = row.get(str(task.column))
            if value is not None:
                check(task, rows, i, value)


def _check_tags(task: TaskConfig, rows: Rows, i: int, tags: object) -> None:
    row, place = rows.rows[i], f"{rows.place(i)}: column {task.column!r}"
    tokens = row[TOKENS_COLUMN]
    if not isinstance(tags, list):
        raise ValueError(f"{place}: expected a list with one tag per word, found {tags!r:.80}.")
    if len(tags) != len(tokens):
        raise ValueError(f"{place}: expected one tag per word, found {len(tags)} tags for {len(tokens)} tokens.")
    for word, tag in enumerate(tags):
        if tag is not None and not isinstance(tag, str):
            place = f"{rows.place(i, word)}: column {task.column!r}"
            found = f"found {tag!r:.80} (word {word}, {tokens[word]!r:.80})"
            hint = (
                " Ids need names: give the task's `labels` in their order, make the column a ClassLabel of datasets, "
                "or write the tags as strings."
            )
            raise ValueError(f"{place}: expected the name of a tag, {found}.{hint if isinstance(tag, int) else ''}")
    check_characters("".join(filter(None, tags)), place)


def _check_label(task: TaskConfig, rows: Rows, i: int, value: object) -> None:
    place = f"{rows.place(i)}: column {task.column!r}"
    items = value if isinstance(value, list) else [value]
    wrong = [item for item in items if not isinstance(item, (str, int, float))]
    if wrong:
        raise ValueError(f"{place}: expected a label, a number or a list of them, found {wrong[0]!r:.80}.")
    check_characters("".join(item for item in items if isinstance(item, str)), place)
