"""Options for reading files whose format leaves something open: encoding, delimiter, quotes, header, sheet."""

import codecs
import logging
from dataclasses import dataclass
from functools import cache

from ...models.messages import unknown_name_message

logger = logging.getLogger(__name__)

QUOTING = DOUBLE, BACKSLASH, NO_QUOTING = ("double", "backslash", "none")


@dataclass(frozen=True)
class ReadingOptions:
    """Form of a file. None is guessed from the file, and the guess is logged.

    Args:
        delimiter: Character between the cells of a table, or between the columns of a CoNLL file, where a blank stands
            for any run of white space.
        encoding: Encoding of text files, such as ``"cp1252"``. Defaults to UTF-8, and to UTF-16 or UTF-32 for files
            that begin with its byte order mark.
        quoting: How a quote is written in a quoted cell: ``"double"`` (twice), or ``"backslash"`` (after a
            backslash); with ``"none"``, a quote is a character like others. By default, a cell of a table with tabs
            is quoted if a quote begins and ends it, and the cells of other tables are quoted with ``"double"``.
        header: Whether the first line of a table names the columns. If not, their names are their numbers, from 0.
        sheet: Name of the sheet of an Excel file. Defaults to the first.

    Raises:
        ValueError: If a value is not allowed.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None
    header: bool | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter == r"\t":  # as a shell passes a tab on
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"\0'):
            raise ValueError(
                f"delimiter must be one character, such as ';' or '\\t', and no quote or line end; found "
                f"{self.delimiter!r}."
            )
        if self.quoting is not None and self.quoting not in QUOTING:
            raise ValueError(f"quoting: {unknown_name_message('value', self.quoting, QUOTING)}")
        if self.encoding is not None:
            _check_encoding(self.encoding)


@cache
def log_guess(message: str) -> None:
    """Log what was guessed about a file, once: files are read several times."""
    logger.warning("%s", message)


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
        "a".encode(encoding)
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"encoding: expected the name of an encoding of Python, such as 'utf-8', 'cp1252' or 'utf-16', found "
            f"{encoding!r}."
        ) from error
