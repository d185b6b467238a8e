"""Texts to predict: pasted lines, or the rows of an uploaded file."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from ..data.readers.sources import open_rows
from ..models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN
from ..models.type_aliases import Row

# A page waits for its predictions. The command line predicts files of any size.
MAX_TEXTS = 20_000
MIN_WORDS_PER_TEXT = 2
PLAIN_TEXT = ".txt"


def pasted_rows(text: str | None) -> list[Row]:
    """Return a row for each line that is not empty.

    Args:
        text: What was typed or pasted.

    Raises:
        ValueError: If there is no such line, or there are too many.
    """
    lines = ({TEXT_COLUMN: line.strip()} for line in (text or "").splitlines() if line.strip())
    return _limited(lines, "text", "type a text, or paste one per line")


def file_rows(path: Path) -> list[Row]:
    """Return the rows of an uploaded file, with the texts in ``text`` or ``tokens``.

    Args:
        path: A file with a text per line, or in a format of `open_rows`. If it has neither ``text`` nor ``tokens``,
            the column with the longest texts is taken.

    Raises:
        ValueError: If the file is not in its format, has no texts, or too many.
    """
    try:
        if path.suffix.lower() == PLAIN_TEXT:
            with path.open(encoding="utf-8-sig") as file:
                return _limited(_lines(file), path.name, "write one text per line")
        rows = _limited((located.row for located in open_rows(path)), path.name, "the file needs rows")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: expected UTF-8. Save the file as UTF-8 and choose it again.") from error
    except (ValueError, OSError) as error:
        # Messages name the file without its folder on the server.
        raise ValueError(str(error).replace(str(path), path.name)) from error
    column = _text_column(rows, path.name)
    return [{**row, TEXT_COLUMN: row.get(column)} for row in rows] if column != TOKENS_COLUMN else rows


def _lines(file: Iterable[str]) -> Iterable[Row]:
    return ({TEXT_COLUMN: line.strip()} for line in file if line.strip())


def _limited(rows: Iterable[Row], name: str, hint: str) -> list[Row]:
    found = list(islice(rows, MAX_TEXTS + 1))
    if not found:
        raise ValueError(f"{name}: expected at least one text, found none: {hint}.")
    if len(found) > MAX_TEXTS:
        raise ValueError(
            f"{name}: the page predicts at most {MAX_TEXTS:,} texts at a time. For more, use hf-multitask predict."
        )
    return found


def _text_column(rows: Sequence[Row], name: str) -> str:
    """Return the column with the texts."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in (TEXT_COLUMN, TOKENS_COLUMN):
        if column in columns:
            return column
    words = {
        column: sum(len(str(row.get(column) or "").split()) for row in rows) / len(rows)
        for column in columns
        if all(isinstance(row.get(column), (str, type(None))) for row in rows)
    }
    longest = max(words, key=words.__getitem__, default=None)
    if longest is None or words[longest] < MIN_WORDS_PER_TEXT:
        raise ValueError(
            f"{name}: expected a column {TEXT_COLUMN!r} or {TOKENS_COLUMN!r}, or another with texts, found "
            f"{', '.join(map(repr, columns)) or 'none'}."
        )
    return longest
