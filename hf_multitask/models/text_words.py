"""Splitting a text into words, each with its place in the text."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import regex

# A run of characters without white space, less the punctuation at its edges and a possessive 's, which are words of
# their own; scripts that are written without spaces give a word a character.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"[{_UNSPACED}]"
    rf"|[^\W{_UNSPACED}](?:[^\s{_UNSPACED}]*?[^\W{_UNSPACED}])??(?=['’]s(?!\w)|[^\w\s]*(?:\s|$|[{_UNSPACED}]))"
    r"|['’]s(?!\w)"
    r"|\S"
)
_CLUSTER = regex.compile(r"\X")


class Word(NamedTuple):
    """A word and its place: ``text[start:end] == word.text``."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Split a text into words; punctuation at a word's edge is a word of its own.

    No word begins or ends inside of a grapheme cluster.

    Args:
        text: Any text.

    Returns:
        The words, in order; their places count characters of ``text``.
    """
    if text.isascii():  # each character is a cluster
        return [Word(match.group(), *match.span()) for match in _WORD.finditer(text)]
    clusters = grapheme_clusters(text)
    starts = list(accumulate(map(len, clusters), initial=0))
    # Each cluster counts as its first letter or digit, or what it begins with.
    skeleton = "".join(c if len(c) == 1 else next(filter(str.isalnum, c), c[0]) for c in clusters)
    places = [(starts[match.start()], starts[match.end()]) for match in _WORD.finditer(skeleton)]
    return [Word(text[start:end], start, end) for start, end in places]


def grapheme_clusters(text: str) -> list[str]:
    """Part a text into what a reader takes for one character each: a letter and its marks, a joined emoji, a flag.

    Args:
        text: Any text.

    Returns:
        The parts, in order; each character of white space is a part of its own.
    """
    clusters: list[str] = []
    for run in re.findall(r"\s|\S+", text):
        clusters += run if run.isascii() else _CLUSTER.findall(run)
    return clusters


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
