"""What was understood of a received file, in plain words and as HTML."""

from collections.abc import Sequence

from ..data.guessing import ColumnGuess, FileForm, FileGuess, RowReport
from ..data.guessing.columns import (
    IGNORED,
    INPUT_ROLES,
    LABEL,
    LABELS,
    NUMBER,
    SPANS,
    TAGS,
    TEXT,
    TEXT_PAIR,
    TOKENS,
)
from .markup import notice, table

ROLE_WORDS = {
    TEXT: "the text",
    LABEL: "a label: one per text",
    LABELS: "labels: several per text",
    NUMBER: "a number to predict",
    TOKENS: "the words of the text",
    TAGS: "tags: one per word",
    SPANS: "marked places in the text",
    TEXT_PAIR: "a second text",
    IGNORED: "not used",
}
DELIMITER_WORDS = {",": "comma ,", ";": "semicolon ;", "\t": "tab", "|": "bar |"}
ENCODING_WORDS = {
    "utf-8": "UTF-8 (usual today)",
    "cp1252": "Windows, Western Europe (cp1252)",
    "latin-1": "Latin 1",
    "cp1250": "Windows, Central Europe (cp1250)",
    "cp1251": "Windows, Cyrillic (cp1251)",
    "utf-16": "UTF-16",
}
HEADER_WORDS = {True: "yes, it names the columns", False: "no, it is a row like the others"}
MAX_LINES, MAX_ROWS, MAX_PROBLEMS, MAX_LABELS = 3, 5, 20, 12
MAX_CHARACTERS = 90


def first_lines(form: FileForm) -> str:
    """Return the first lines of a table, by which a person sees whether line 1 is a header."""
    lines = form.first_lines[:MAX_LINES]
    width = max(map(len, lines), default=0)
    rows = [[f"line {number}", *map(_short, line)] for number, line in enumerate(lines, start=1)]
    return table(["", *(f"column {i + 1}" for i in range(width))], rows)


def preview(guess: FileGuess) -> str:
    """Return the first rows, with what each column is and why."""
    names = [column_title(column) for column in guess.columns]
    facts = [f"{ROLE_WORDS[column.role]}\n({column.reason})" for column in guess.columns]
    rows = [[_short(row.get(column.name)) for column in guess.columns] for row in guess.rows[:MAX_ROWS]]
    return table(names, [facts, *rows])


def summary(guess: FileGuess, report: RowReport) -> str:
    """Return how many rows can be used, their labels, and what is wrong with the others."""
    parts = [notice(_counts(guess, report))]
    titles = {column.name: column_title(column) for column in guess.columns}
    parts += [
        notice(f"{titles[name]}: {_listed(counter.most_common())}.")
        for name, counter in report.counts.items()
        if counter
    ]
    if report.problems:
        parts.append(notice(f"Rows that cannot be used: {len(report.problems)}.", "warning"))
        shown = [[str(number), problem] for number, problem in report.problems[:MAX_PROBLEMS]]
        parts.append(table(["line", "what is wrong"], shown))
        if len(report.problems) > MAX_PROBLEMS:
            parts.append(notice(f"… and {len(report.problems) - MAX_PROBLEMS} more."))
    return "".join(parts)


def column_title(column: ColumnGuess) -> str:
    """Return the name of a column as the page shows it: ``column 1`` if it has a number only."""
    return f"column {int(column.name) + 1}" if column.name.isdecimal() else column.name


def _counts(guess: FileGuess, report: RowReport) -> str:
    roles = {column.role for column in guess.columns}
    if not roles & set(INPUT_ROLES):
        return "No column looks like the text. Choose it above."
    words = [f"Rows that can be used: {report.usable}."]
    if not guess.tasks:
        words.append("No column looks like labels. Choose one above, or label some rows by hand.")
    elif report.unlabeled:
        words.append(f"{report.unlabeled} of them have no label; they count for nothing.")
    return " ".join(words)


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{_short(name)} ({count})" for name, count in counts[:MAX_LABELS])
    return shown + (f" and {len(counts) - MAX_LABELS} more labels" if len(counts) > MAX_LABELS else "")


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
