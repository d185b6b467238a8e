"""Guess of what the columns of a file are: the text, words, labels, numbers, tags, or nothing to train on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ...models.tags_iob2 import OUTSIDE
from ...models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ...models.type_aliases import Row
from ..readers.cells import is_list_cell, parse_list
from ..readers.spans import is_span_list

TEXT, TEXT_PAIR, TOKENS = TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
LABEL, LABELS, NUMBER, TAGS, SPANS, IGNORED = "label", "labels", "number", "tags", "spans", "ignored"
LABEL_ROLES = (LABEL, LABELS, NUMBER, TAGS, SPANS)
INPUT_ROLES = (TEXT, TEXT_PAIR, TOKENS)
ROLES = (*INPUT_ROLES, *LABEL_ROLES, IGNORED)

# A column with more distinct values per row than this does not contain labels.
MAX_LABELS_PER_ROW = 0.5
# Two values are classes, however few rows there are.
MIN_LABELS = 2
MIN_WORDS_PER_TEXT = 2
MAX_WORDS_PER_LABEL = 6
MAX_EXAMPLES = 3
# Names of the column with the text, the likeliest first.
_TEXT_NAMES = (
    *("text", "sentence", "utterance", "message", "comment", "review", "question", "query", "content", "body"),
    *("document", "tweet", "description", "title"),
)
_SEPARATORS = ("|", ";", ",")
_TAG = re.compile(r"O|[BILUES]-\S+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d\d:\d\d(:\d\d)?")


@dataclass(frozen=True)
class ColumnGuess:
    """What a column is.

    Args:
        name: Name of the column in the file; its number if the file has no header.
        role: One of `ROLES`.
        reason: Reason of the guess, as a phrase.
        examples: Some of its values.
        separator: Separator of several labels in a cell, if the role is ``"labels"`` and cells are no lists.
    """

    name: str
    role: str
    reason: str
    examples: tuple[str, ...] = ()
    separator: str | None = None


def guess_columns(rows: Sequence[Row], given: Mapping[str, str] | None = None) -> list[ColumnGuess]:
    """Guess what the columns of rows are.

    Args:
        rows: The first rows of a file.
        given: Roles by column that are known and not guessed.

    Returns:
        A guess for each column, in the order of the file. At most one has the role ``"text"`` or ``"tokens"``.
    """
    given = given or {}
    columns = {name: _Column(name, rows) for name in dict.fromkeys(chain.from_iterable(rows))}
    guesses = {name: ColumnGuess(name, role, "chosen", columns[name].examples) for name, role in given.items()}
    free = {name: column for name, column in columns.items() if name not in given}
    if not {TEXT, TOKENS} & set(given.values()):
        guesses |= _guess_texts(free)
    words = next((columns[name] for name, guess in guesses.items() if guess.role == TOKENS), None)
    for name, column in free.items():
        if name not in guesses:
            guesses[name] = column.guess(words)
    return [guesses[name] for name in columns]


def _guess_texts(columns: Mapping[str, "_Column"]) -> dict[str, ColumnGuess]:
    """Return the column of the text, or of its words, and that of a second text."""
    found: dict[str, ColumnGuess] = {}
    if (pair := columns.get(TEXT_PAIR)) is not None and pair.is_text:
        found[TEXT_PAIR] = pair.as_role(TEXT_PAIR, f"it is named {TEXT_PAIR!r}")
    if (tokens := columns.get(TOKENS)) is not None and tokens.values:
        return {**found, TOKENS: tokens.as_role(TOKENS, f"it is named {TOKENS!r}")}
    texts = {name: column for name, column in columns.items() if column.is_text and name not in found}
    for column in texts.values():
        if any(other.are_tags_of(column) for other in columns.values() if other is not column):
            return {**found, column.name: column.as_role(TOKENS, "another column has a tag for each of its words")}
    for name in _TEXT_NAMES:
        match = next((column for column in texts.values() if column.name.strip().casefold() == name), None)
        if match is not None and (name == TEXT or match.mean_words >= MIN_WORDS_PER_TEXT):
            return {**found, match.name: match.as_role(TEXT, f"it is named {match.name!r}")}
    longest = max(texts.values(), key=lambda column: column.mean_words, default=None)
    if longest is not None and longest.mean_words >= MIN_WORDS_PER_TEXT:
        found[longest.name] = longest.as_role(TEXT, "it has the longest texts")
    return found


class _Column:
    """A column with its values.

    Args:
        name: Name of the column.
        rows: Rows that may have it.
    """

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        self.name = name
        cells = [row.get(name) for row in rows]
        # By row, None where there is no value.
        self.cells = [_parsed(cell) for cell in cells]
        self.values = [cell for cell in self.cells if cell is not None]
        self.examples = tuple(dict.fromkeys(str(cell) for cell in cells if cell not in (None, "")))[:MAX_EXAMPLES]

    @property
    def is_text(self) -> bool:
        return bool(self.values) and all(isinstance(value, str) for value in self.values)

    @property
    def mean_words(self) -> float:
        return sum(len(str(value).split()) for value in self.values) / max(len(self.values), 1)

    def as_role(self, role: str, reason: str, separator: str | None = None) -> ColumnGuess:
        return ColumnGuess(self.name, role, reason, self.examples, separator)

    def are_tags_of(self, words: "_Column") -> bool:
        """Return whether the column has a tag for each word of another column."""
        pairs = [
            (_items(tags), _items(tokens))
            for tags, tokens in zip(self.cells, words.cells, strict=True)
            if tags is not None and tokens is not None
        ]
        tags = [tag for tags, _ in pairs for tag in tags]
        return (
            all(len(tags) == len(tokens) for tags, tokens in pairs)
            and all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags)
            and any(tag != OUTSIDE for tag in tags)
        )

    def guess(self, words: "_Column | None") -> ColumnGuess:
        """Guess the role of a column that is neither the text nor its words."""
        if not self.values:
            return self.as_role(IGNORED, "it is empty")
        if words is not None and self.are_tags_of(words):
            return self.as_role(TAGS, "it has a tag for each word")
        if all(isinstance(value, list) for value in self.values):
            return self._guess_lists(words)
        floats = [value for value in self.values if isinstance(value, float)]
        if len(floats) == len(self.values):
            return self._guess_numbers(floats)
        if not all(isinstance(value, (str, int)) for value in self.values):
            return self.as_role(IGNORED, "its values are of several kinds")
        return self._guess_texts_or_labels([str(value) for value in self.values])

    def _guess_lists(self, words: "_Column | None") -> ColumnGuess:
        if any(is_span_list(value) for value in self.values):
            return self.as_role(SPANS, "it has spans of the text")
        pairs = zip(self.cells, words.cells if words else (), strict=False)
        if words is not None and all(len(_items(tags)) == len(_items(tokens)) for tags, tokens in pairs if tags):
            return self.as_role(TAGS, "it has as many items as there are words")
        return self.as_role(LABELS, "it has several labels per row")

    def _guess_numbers(self, numbers: Sequence[float]) -> ColumnGuess:
        if all(number.is_integer() for number in numbers) and self._are_few(numbers):
            return self.as_role(LABEL, f"it has {len(set(numbers))} different whole numbers")
        return self.as_role(NUMBER, "it has numbers with decimals")

    def _guess_texts_or_labels(self, values: Sequence[str]) -> ColumnGuess:
        distinct = len(set(values))
        if all(_DATE.fullmatch(value) for value in values):
            return self.as_role(IGNORED, "it has dates or times")
        if distinct == 1 and len(values) > 1:
            return self.as_role(IGNORED, "every row has the same value")
        if (separator := _separator(values)) is not None:
            return self.as_role(LABELS, f"its cells have several labels, separated by {separator!r}", separator)
        if self._are_few(values) and self.mean_words <= MAX_WORDS_PER_LABEL:
            return self.as_role(LABEL, f"it has {distinct} different values in {len(values)} rows")
        if (numbers := _numbers(values)) is not None and not all(number.is_integer() for number in numbers):
            return self.as_role(NUMBER, "it has numbers with decimals")
        return self.as_role(IGNORED, f"it has {distinct} different values in {len(values)} rows, too many for labels")

    def _are_few(self, values: Sequence[object]) -> bool:
        return len(set(values)) <= max(MIN_LABELS, MAX_LABELS_PER_ROW * len(values))


def _parsed(cell: object) -> object:
    """Return a value with a list for a cell that contains one; None for an empty one."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, str) and is_list_cell(cell):
        try:
            return parse_list(cell)
        except ValueError:
            return cell
    return cell


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else str(value).split()


def _separator(values: Sequence[str]) -> str | None:
    """Return the character that separates several labels in the cells, if their parts occur again and again."""
    for separator in _SEPARATORS:
        parts = [part.strip() for value in values for part in value.split(separator)]
        recurring = len(set(parts)) <= MAX_LABELS_PER_ROW * len(parts)
        if len(parts) > len(values) and all(parts) and recurring and _are_names(parts):
            return separator
    return None


def _are_names(parts: Sequence[str]) -> bool:
    return max(len(part.split()) for part in parts) <= MIN_WORDS_PER_TEXT


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None
