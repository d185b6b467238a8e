"""The tags of rows, read from the scheme that they are written in into IOB2."""

import dataclasses
from collections.abc import Iterable

from ..models.tag_conversion import TAG_SCHEMES, find_broken, is_tag_of, recognise_scheme, tag_forms, to_iob2
from ..models.tasks import TaskConfig
from .rows import TOKENS_COLUMN, Rows


def complete_scheme(task: TaskConfig, splits: Iterable[Rows]) -> TaskConfig:
    """Fill in the tag scheme that a token task leaves to the data.

    Args:
        task: The token task.
        splits: The rows that tell the scheme.

    Returns:
        The task with its scheme.

    Raises:
        ValueError: If the tags fit no scheme. The message names the place of the first that is not IOB2.
    """
    if task.tag_scheme is not None:
        return task
    column = str(task.column)
    splits = list(splits)
    sequences = [row[column] for rows in splits for row in rows.rows if row.get(column) is not None]
    try:
        return dataclasses.replace(task, tag_scheme=recognise_scheme(sequences))
    except ValueError as error:
        place = next(place for rows in splits if (place := _first_foreign(rows, column)))
        raise ValueError(f"{place}: column {column!r}: {error} Name it as the task's tag_scheme.") from error


def read_tags(task: TaskConfig, rows: Rows) -> int:
    """Turn a token task's tags into IOB2, in place.

    Args:
        task: The token task, with its scheme.
        rows: The rows of a split.

    Returns:
        The number of rows whose tags break the rule of their scheme; they are read as conlleval does.

    Raises:
        ValueError: If a tag is none of the scheme, or breaks its rule and the task has ``strict_tags``. The message
            names file, line, word and tag.
    """
    column, scheme = str(task.column), str(task.tag_scheme)
    broken_rows = 0
    for i, row in enumerate(rows.rows):
        tags = row.get(column)
        if tags is None:
            continue
        for word, tag in enumerate(tags):
            if tag is not None and not is_tag_of(tag, scheme):
                raise ValueError(
                    f"{_place(rows, i, word, column)}: {tag!r} (word {word}, {row[TOKENS_COLUMN][word]!r}) is no "
                    f"{scheme} tag; expected {tag_forms(scheme)}. Allowed as tag_scheme: {', '.join(TAG_SCHEMES)}."
                )
        broken = find_broken(tags, scheme)
        if broken is not None:
            broken_rows += 1
            if task.strict_tags:
                raise ValueError(
                    f"{_place(rows, i, broken.word, column)}: {broken.tag!r} (word {broken.word}, "
                    f"{row[TOKENS_COLUMN][broken.word]!r}) breaks the rule of {scheme}; expected {broken.expected!r}."
                )
        row[column] = to_iob2(tags, scheme)
    return broken_rows


def _first_foreign(rows: Rows, column: str) -> str | None:
    for i, row in enumerate(rows.rows):
        for word, tag in enumerate(row.get(column) or []):
            if tag is not None and not is_tag_of(tag, "IOB2"):
                return rows.place(i, word)
    return None


def _place(rows: Rows, i: int, word: int, column: str) -> str:
    return f"{rows.place(i, word)}: column {column!r}"
