"""CoNLL files: columns of words and tags, with a word per line."""

import logging
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ...models.text_inputs import TOKENS_COLUMN
from .file_reader import Columns
from .reading_options import ReadingOptions, log_guess
from .rows import BrokenRow, LocatedRow
from .text_lines import TextLines, shorten

logger = logging.getLogger(__name__)

CONLLU = "conllu"
DOCUMENT_START = "-DOCSTART-"
_DOCUMENT_MARKS = (DOCUMENT_START, "#begin document", "#end document")
_COMMENT = "#"
_BLANK, _TAB = " ", "\t"
_BLANKS = re.compile("[ \t]+")

# CoNLL-U: ten columns, of which the first numbers the words; the word is in the second.
_NUM_CONLLU_COLUMNS = 10
_CONLLU_COLUMNS = {TOKENS_COLUMN: 1}
# Numbers of lines that are no words: several words written as one, and words that are not written.
_NO_WORD = re.compile(r"\d+[-.]\d+")
# A tag of a scheme with prefixes, or of a word outside.
_TAG = re.compile(r"O|[BILUES]-.+")
# WikiANN writes the language before each word.
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:(?=.)")
_LINES_COMPARED = 1000


class _Form(NamedTuple):
    """What the first lines of a file show.

    Args:
        delimiter: A tab, or a blank for any run of blanks and tabs.
        num_columns: Number of columns of the first word.
        is_conllu: Whether lines may be no words, as their first column shows.
        prefix: What each word begins with and does not belong to it.
    """

    delimiter: str
    num_columns: int
    is_conllu: bool
    prefix: str


def read_conll(
    path: Path, columns: Columns, options: ReadingOptions, is_conllu: bool = False
) -> Iterator[LocatedRow | BrokenRow]:
    """Read columns of words and tags, with a blank line after each row.

    Args:
        path: The file.
        columns: By the library's name of a column, its number in the file, from 0. In CoNLL-U, words are in column 1.
        options: Encoding and delimiter of the file.
        is_conllu: Whether the file is CoNLL-U; recognized if False.

    Yields:
        The rows, with their lines and the lines of their words; a broken one for a row with a line that has too few
        columns.

    Raises:
        ValueError: If ``columns`` contains no ``tokens`` or a value that is not a number.
    """
    lines = TextLines(path, options.encoding)
    form = _find_form(lines, options.delimiter, is_conllu, columns.get(TOKENS_COLUMN))
    numbers = _checked_numbers(lines, _CONLLU_COLUMNS | dict(columns) if form.is_conllu else columns)
    yield from _Sentences(lines, form, numbers).rows()


def count_columns(path: Path, is_conllu: bool = False) -> tuple[int, bool]:
    """Return the number of columns of the first word of a file, and whether the file is CoNLL-U."""
    form = _find_form(TextLines(path, None), None, is_conllu, None)
    return form.num_columns, form.is_conllu


class _Sentences:
    """Rows of a CoNLL file.

    Args:
        lines: The lines.
        form: Form of the file.
        numbers: By the library's name of a column, its number.
    """

    def __init__(self, lines: TextLines, form: _Form, numbers: Mapping[str, int]) -> None:
        self.lines, self.form, self.numbers = lines, form, numbers
        self.last_column = max(numbers.values())
        self.comments: list[int] = []
        self.no_words: list[int] = []

    def rows(self) -> Iterator[LocatedRow | BrokenRow]:
        """Yield the rows."""
        current: LocatedRow | None = None
        broken: BrokenRow | None = None
        decode, splits_tabs, has_words = self.lines.decode, self.form.delimiter == _TAB, not self.form.is_conllu
        cells: list[str] | None
        columns, last_column = list(self.numbers.values()), self.last_column
        for number, raw in self.lines:
            try:
                line = decode(number, raw).rstrip("\r\n")
                # Most lines are plain words, which need no further look.
                if splits_tabs and has_words and line and line[0] not in "#-" and " " not in line:
                    cells = line.split(_TAB)
                    if len(cells) <= last_column or not all(map(cells.__getitem__, columns)):
                        cells = self._cells(line, number, is_first=current is None and broken is None)
                else:
                    cells = self._cells(line, number, is_first=current is None and broken is None)
            except ValueError as error:
                broken = broken or BrokenRow(error, number if current is None else current.line)
                continue
            if cells is None:
                continue
            if not cells:
                if broken is not None or current is not None:
                    yield broken or current  # type: ignore[misc]
                current = broken = None
                continue
            if current is None:
                current = LocatedRow({name: [] for name in self.numbers}, number, [])
            current.word_lines.append(number)
            for name, column in self.numbers.items():
                current.row[name].append(cells[column])
            if self.form.prefix:
                current.row[TOKENS_COLUMN][-1] = current.row[TOKENS_COLUMN][-1].removeprefix(self.form.prefix)
        if broken is not None or current is not None:
            yield broken or current  # type: ignore[misc]
        self._log_counts()

    def _cells(self, line: str, number: int, is_first: bool) -> list[str] | None:
        """Return the cells of a word; none at the end of a row, and None for a line that is no word."""
        if not line.strip() or line.startswith(_DOCUMENT_MARKS):
            return []
        cells = _split(line, self.form.delimiter)
        if line.startswith(_COMMENT) and self._is_comment(line, cells, number, is_first):
            return None
        if self.form.is_conllu and _NO_WORD.fullmatch(cells[0]):
            self.no_words.append(number)
            return None
        if len(cells) <= self.last_column:
            found = f"expected at least {self.last_column + 1} columns, found {len(cells)}: {shorten(line)}"
            raise ValueError(f"{self.lines.path}:{number}: {found}.{self._hint(line)}")
        if not all(cells[column] for column in self.numbers.values()):
            raise ValueError(
                f"{self.lines.path}:{number}: a cell is empty: {shorten(line)}. If several tabs separate two columns, "
                "give `delimiter: ' '`."
            )
        return cells

    def _is_comment(self, line: str, cells: list[str], number: int, is_first: bool) -> bool:
        """Return whether a line that begins with a hash is a comment, and not a word such as ``#`` or ``#hashtag``.

        Comments are at the start of a row. There, a hash and a blank begin a comment, unless its columns are tags.
        Other comments differ from words in their number of columns.
        """
        has_columns = len(cells) == self.form.num_columns > self.last_column
        if line.startswith(_COMMENT + _BLANK):
            tags = [cells[column] for name, column in self.numbers.items() if name != TOKENS_COLUMN and has_columns]
            if has_columns and (not is_first or (tags and all(map(_TAG.fullmatch, tags)))):
                return False
            if has_columns:
                self.comments.append(number)
            return True
        return is_first and not has_columns

    def _hint(self, line: str) -> str:
        if self.form.delimiter == _TAB and len(_split(line, _BLANK)) > self.last_column:
            return " Tabs separate the columns of the first word; for any white space, give `delimiter: ' '`."
        return ""

    def _log_counts(self) -> None:
        if self.comments:
            logger.warning(
                "%s: lines that begin with '# ' at the start of a row and are read as comments, although they have as "
                "many columns as a word: %d, the first is line %d.",
                self.lines.path,
                len(self.comments),
                self.comments[0],
            )
        if self.no_words:
            logger.warning(
                "%s: lines of CoNLL-U that are no words (as 2-3 and 4.1) and are left out: %d, the first is line %d.",
                self.lines.path,
                len(self.no_words),
                self.no_words[0],
            )


def _find_form(lines: TextLines, delimiter: str | None, is_conllu: bool, tokens: str | int | None) -> _Form:
    """Return the form that the first words show. The lines themselves are checked when they are read."""
    found = [line for line in islice(_decoded(lines), _LINES_COMPARED) if line.strip()]
    words = [line for line in found if not line.startswith((_COMMENT, *_DOCUMENT_MARKS))]
    words = words or [line for line in found if not line.startswith((_COMMENT + _BLANK, *_DOCUMENT_MARKS))]
    first = words[0] if words else ""
    delimiter = (_TAB if _TAB in first else _BLANK) if delimiter is None else delimiter
    cells = [_split(line, delimiter) for line in words]
    num_columns = len(cells[0]) if cells else 0
    if not is_conllu and delimiter == _TAB and num_columns == _NUM_CONLLU_COLUMNS and cells[0][0] == "1":
        is_conllu = True
        log_guess(f"{lines.path}: read as CoNLL-U, as its ten columns show (`format: {CONLLU}`).")
    column = tokens if isinstance(tokens, int) else _CONLLU_COLUMNS[TOKENS_COLUMN] if is_conllu else 0
    tokens_of = [row[column] for row in cells if len(row) > column >= 0]
    return _Form(delimiter, num_columns, is_conllu, _language(lines.path, tokens_of))


def _language(path: Path, words: list[str]) -> str:
    """Return the language that each word begins with, if all do."""
    match = _LANGUAGE.match(words[0]) if len(words) > 1 else None
    if match is None or not all(word.startswith(match.group()) and word != match.group() for word in words):
        return ""
    log_guess(f"{path}: {match.group()!r} before each word is left out; it names the language, as in WikiANN.")
    return match.group()


def _decoded(lines: TextLines) -> Iterator[str]:
    for number, line in lines:
        try:
            yield lines.decode(number, line).rstrip("\r\n")
        except ValueError:  # refused when the line is read
            continue


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == _BLANK:
        return _BLANKS.split(line.strip(" \t"))
    cells = line.split(delimiter)
    return [cell.strip(" ") or cell for cell in cells] if _BLANK in line else cells


def _checked_numbers(lines: TextLines, columns: Columns) -> Mapping[str, int]:
    path = lines.path
    if TOKENS_COLUMN not in columns:
        first = next((line for line in _decoded(lines) if line.strip()), "")
        raise ValueError(
            f"{path}: a CoNLL file needs `columns`, such as {{tokens: 0, ner: 1}}; its first line is {shorten(first)}."
        )
    for name, column in columns.items():
        if not isinstance(column, int) or isinstance(column, bool) or column < 0:
            raise ValueError(f"{path}: columns.{name}: expected the number of a column, from 0, found {column!r}.")
    return {name: int(column) for name, column in columns.items()}
