"""Texts to predict: checks of an input row, and its words with their offsets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .text_words import Word, join_words, locate_words, split_words

TEXT_COLUMN = "text"
TOKENS_COLUMN = "tokens"
# Second text of a pair, under the name that transformers uses.
TEXT_PAIR_COLUMN = "text_pair"


class TextInput(NamedTuple):
    """A text, its words and the second text of a pair. Without token tasks, the whole text is one word."""

    text: str
    words: list[Word]
    text_pair: str | None = None


def check_input(row: Mapping[str, Any], place: str) -> None:
    """Raise if a row has neither words nor a text, or its second text is invalid.

    Args:
        row: Row.
        place: Name of the row in messages.

    Raises:
        ValueError: If the row has neither ``tokens`` nor ``text``, or one of them or ``text_pair`` is empty or of the
            wrong type.
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
    """Raise if a text contains half of a surrogate pair, which no tokenizer accepts.

    Args:
        text: Any text.
        place: Name of the text in messages.

    Raises:
        ValueError: If the text contains half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"found half of a surrogate pair, {text[error.start]!r}, at character {error.start}"
        raise ValueError(f"{place}: {found}: a character beyond U+FFFF was cut in two.") from error


def read_input(row: Mapping[str, Any], place: str, split: bool) -> TextInput:
    """Return the text and words of a row that `check_input` accepts.

    Args:
        row: Row with ``text``, ``tokens``, or both, in which case the words are located in the text; and ``text_pair``
            for a pair of texts.
        place: Name of the row in messages.
        split: Whether to split a text without words into words.

    Returns:
        The text (the words joined by spaces if there is no text), the words, and the second text.

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
