"""Reading one text that is to be predicted: what it may be, and its words with their places."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .text_words import Word, join_words, locate_words, split_words

TEXT_COLUMN = "text"
TOKENS_COLUMN = "tokens"
# The second text of a pair; `transformers` calls it so too.
TEXT_PAIR_COLUMN = "text_pair"


class TextInput(NamedTuple):
    """A text and its words; where no task labels words, the whole text is one. Of a pair, also the second text."""

    text: str
    words: list[Word]
    text_pair: str | None = None


def check_input(row: Mapping[str, Any], place: str) -> None:
    """Check that a row has words or a text, and that a second text is one.

    Args:
        row: The row.
        place: What messages call it.

    Raises:
        ValueError: If it has neither ``tokens`` nor ``text``, or one of them or ``text_pair`` is empty or of another
            type.
    """
    tokens, text = row.get(TOKENS_COLUMN), row.get(TEXT_COLUMN)
    if tokens is None and text is None:
        found = ", ".join(f"{key!r} without a value" if row[key] is None else repr(key) for key in row) or "none"
        raise ValueError(f"{place}: expected a column 'tokens' or 'text', found {found}.")
    if tokens is not None:
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"{place}: 'tokens' must be a list of strings, found {tokens!r:.80}.")
        if not tokens:
            raise ValueError(f"{place}: 'tokens' is empty; expected at least one word.")
    _check_text(row, TEXT_COLUMN, place, may_be_empty=tokens is not None)
    _check_text(row, TEXT_PAIR_COLUMN, place)
    check_characters("".join([*(tokens or []), text or "", row.get(TEXT_PAIR_COLUMN) or ""]), place)


def _check_text(row: Mapping[str, Any], column: str, place: str, may_be_empty: bool = False) -> None:
    text = row.get(column)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{place}: {column!r} must be a string, found {text!r:.80}.")
    if text is not None and not may_be_empty and not text.strip():
        raise ValueError(f"{place}: {column!r} is empty; expected at least one word.")


def check_characters(text: str, place: str) -> None:
    """Refuse half a character, which no tokenizer takes.

    Args:
        text: Any text.
        place: What messages call it.

    Raises:
        ValueError: If it holds half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"found half of a surrogate pair, {text[error.start]!r}, at character {error.start}"
        raise ValueError(f"{place}: {found}: a character beyond U+FFFF was cut in two.") from error


def read_input(row: Mapping[str, Any], place: str, split: bool) -> TextInput:
    """Read a checked row's text and words.

    Args:
        row: The row, with ``text``, ``tokens``, or both: the words are then looked up in the text; and ``text_pair``
            where it is a pair of texts.
        place: What messages call it.
        split: Whether a text without words is split into words.

    Returns:
        The text, that of the words joined by spaces where there is none, the words, and the second text.

    Raises:
        ValueError: If a word does not occur in the text.
    """
    text, tokens, pair = row.get(TEXT_COLUMN), row.get(TOKENS_COLUMN), row.get(TEXT_PAIR_COLUMN)
    if tokens is None:
        text = str(text)
        return TextInput(text, split_words(text) if split else [Word(text, 0, len(text))], pair)
    if text is None:
        return TextInput(*join_words(tokens), pair)
    try:
        return TextInput(text, locate_words(tokens, text), pair)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
