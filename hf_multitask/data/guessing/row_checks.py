"""Check of all rows of a file: which can be used as it was understood, and what is wrong with the others."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ...models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN, check_input
from ...models.type_aliases import Row
from ..readers.cells import split_cell
from ..readers.chunked_file import ChunkedFile
from ..readers.spans import is_span_list
from .columns import IGNORED, LABEL, LABEL_ROLES, LABELS, NUMBER, SPANS, TAGS, ColumnGuess
from .file_guess import FileGuess

# Returns what is wrong with a row's value.
_Check: TypeAlias = Callable[[Row, object], str]


class RowProblem(NamedTuple):
    """A row that cannot be used.

    Args:
        number: Its line in the file, or its row in the sheet.
        problem: What is wrong with it.
    """

    number: int
    problem: str


@dataclass
class RowReport:
    """Result of the check.

    Args:
        usable: Number of rows that can be used.
        unlabeled: Number of these without any label.
        problems: The rows that cannot be used.
        counts: By column of labels, how often each label occurs.
    """

    usable: int = 0
    unlabeled: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


def check_rows(path: str | Path, guess: FileGuess) -> RowReport:
    """Check all rows of a file.

    Args:
        path: The file.
        guess: What was understood of it.

    Returns:
        The numbers of rows and labels, and the problems by row.

    Raises:
        ValueError: If the file as a whole is broken.
    """
    report = RowReport(counts={column.name: Counter() for column in guess.columns if column.role == LABEL})
    labels = [column for column in guess.columns if column.role in LABEL_ROLES]
    for number, row in _checked_rows(Path(path), guess):
        if isinstance(row, str):
            report.problems.append(RowProblem(number, row))
            continue
        report.usable += 1
        report.unlabeled += not any(_has_value(row.get(column.name)) for column in labels)
        for name, counter in report.counts.items():
            if _has_value(row.get(name)):
                counter[str(row[name]).strip()] += 1
    return report


def usable_rows(path: str | Path, guess: FileGuess) -> Iterator[Row]:
    """Yield the rows that can be used, with the library's names of the text and its words, without ignored columns.

    Args:
        path: The file.
        guess: What was understood of it.
    """
    ignored = {column.name for column in guess.columns if column.role == IGNORED}
    for _, row in _checked_rows(Path(path), guess):
        if not isinstance(row, str):
            yield {name: value for name, value in row.items() if name not in ignored}


def _checked_rows(path: Path, guess: FileGuess) -> Iterator[tuple[int, Row | str]]:
    """Yield each row with its number, or what is wrong with it."""
    columns: Mapping[str, str | int] = guess.data.get("columns", {})
    others = {ours for ours in columns if ours not in {column.role for column in guess.columns}}
    file = ChunkedFile(path, guess.form.format, columns, guess.form.options)
    checks = [(column, _CHECKS[column.role]) for column in guess.columns if column.role in _CHECKS]
    for chunk in file:
        for number, row, reason in ((read.number, read.row, read.reason) for read in file.parse(chunk)):
            if row is None:
                yield number, reason
                continue
            row = {name: value for name, value in file.rename(row).items() if name not in others}
            if isinstance(words := row.get(TOKENS_COLUMN), str):
                row[TOKENS_COLUMN] = words.split()
            yield number, _problem(row, checks) or row


def _problem(row: Row, checks: Sequence[tuple[ColumnGuess, _Check]]) -> str:
    """Return what is wrong with a row; nothing if it can be used."""
    if not _has_value(row.get(TEXT_COLUMN)) and not _has_value(row.get(TOKENS_COLUMN)):
        return "the text is missing."
    try:
        check_input(row, "")
    except ValueError as error:
        return str(error).removeprefix(": ")
    for column, check in checks:
        value = row.get(column.name)
        if not _has_value(value):
            continue
        try:
            problem = check(row, value)
        except ValueError as error:  # of a cell that is not a list
            problem = str(error)
        if problem:
            return f"column {column.name!r}: {problem}"
    return ""


def _number_problem(row: Row, value: object) -> str:
    try:
        float(str(value))
    except ValueError:
        return f"expected a number, found {str(value)!r:.60}."
    return ""


def _tags_problem(row: Row, value: object) -> str:
    tags = split_cell(value) if isinstance(value, str) else value
    tokens = row.get(TOKENS_COLUMN) or []
    if not isinstance(tags, list):
        return f"expected a tag for each word, found {value!r:.60}."
    if len(tags) != len(tokens):
        return f"expected one tag per word, found {len(tags)} tags for {len(tokens)} words."
    return ""


def _spans_problem(row: Row, value: object) -> str:
    spans = split_cell(value) if isinstance(value, str) else value
    return "" if is_span_list(spans, empty=True) else f"expected a list of spans, found {value!r:.60}."


def _label_problem(row: Row, value: object) -> str:
    return f"expected one label, found {value!r:.60}." if isinstance(value, (list, dict)) else ""


def _labels_problem(row: Row, value: object) -> str:
    return f"expected labels, found {value!r:.60}." if isinstance(value, dict) else ""


_CHECKS: dict[str, _Check] = {
    LABEL: _label_problem,
    LABELS: _labels_problem,
    NUMBER: _number_problem,
    TAGS: _tags_problem,
    SPANS: _spans_problem,
}


def _has_value(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))
