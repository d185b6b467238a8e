"""Splitting a text into words, each with its place in the text."""

import re
from collections.abc import Sequence
from typing import NamedTuple

# A run of characters without white space, less the punctuation at its edges and a possessive 's, which are words of
# their own; scripts that are written without spaces give a word a character.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"[{_UNSPACED}]"
    rf"|[^\W{_UNSPACED}](?:[^\s{_UNSPACED}]*?[^\W{_UNSPACED}])??(?=['’]s(?!\w)|[^\w\s]*(?:\s|$|[{_UNSPACED}]))"
    r"|['’]s(?!\w)"
    r"|\S"
)


class Word(NamedTuple):
    """A word and its place: ``text[start:end] == word.text``."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Split a text into words; punctuation at a word's edge is a word of its own.

    Args:
        text: Any text.

    Returns:
        The words, in order; their places count characters of ``text``.
    """
    return [Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]


def locate_words(tokens: Sequence[str], text: str) -> list[Word]:
    """Find given words in the text that they were taken from.

    Args:
        tokens: The words, in the order of the text.
        text: The text.

    Returns:
        The words with their places.

    Raises:
        ValueError: If a word does not occur behind the one before it. The message names the word.
    """
    words, start = [], 0
    for i, token in enumerate(tokens):
        found = text.find(token, start)
        if found < 0:
            raise ValueError(f"word {i} of `tokens`, {token!r}, does not occur in `text` behind character {start}.")
        start = found + len(token)
        words.append(Word(token, found, start))
    return words


def join_words(tokens: Sequence[str]) -> tuple[str, list[Word]]:
    """Join words by spaces.

    Args:
        tokens: The words.

    Returns:
        The text, and the words with their places in it.
    """
    words, start = [], 0
    for token in tokens:
        words.append(Word(token, start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), words
