"""Reading one text that is to be predicted: what it may be, and its words with their places."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .words import Word, join_words, locate_words, split_words

TEXT_COLUMN = "text"
TOKENS_COLUMN = "tokens"


class TextInput(NamedTuple):
    """A text and its words; where no task labels words, the whole text is one."""

    text: str
    words: list[Word]


def check_input(row: Mapping[str, Any], place: str) -> None:
    """Check that a row has words or a text.

    Args:
        row: The row.
        place: What messages call it.

    Raises:
        ValueError: If it has neither ``tokens`` nor ``text``, or one that is empty or of another type.
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
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{place}: 'text' must be a string, found {text!r:.80}.")
    if tokens is None and not str(text).strip():
        raise ValueError(f"{place}: 'text' is empty; expected at least one word.")
    check_characters("".join(tokens or []) + (text or ""), place)


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
        row: The row, with ``text``, ``tokens``, or both: the words are then looked up in the text.
        place: What messages call it.
        split: Whether a text without words is split into words.

    Returns:
        The text, that of the words joined by spaces where there is none, and the words.

    Raises:
        ValueError: If a word does not occur in the text.
    """
    text, tokens = row.get(TEXT_COLUMN), row.get(TOKENS_COLUMN)
    if tokens is None:
        text = str(text)
        return TextInput(text, split_words(text) if split else [Word(text, 0, len(text))])
    if text is None:
        return TextInput(*join_words(tokens))
    try:
        return TextInput(text, locate_words(tokens, text))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
