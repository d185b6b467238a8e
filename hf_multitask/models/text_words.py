"""Words of a text with their character offsets."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import regex

# A run of characters without white space, minus the punctuation at its edges and a possessive 's, which are separate
# words. In scripts that are written without spaces, each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"[{_UNSPACED}]"
    rf"|[^\W{_UNSPACED}](?:[^\s{_UNSPACED}]*?[^\W{_UNSPACED}])??(?=['’]s(?!\w)|[^\w\s]*(?:\s|$|[{_UNSPACED}]))"
    r"|['’]s(?!\w)"
    r"|\S"
)
_CLUSTER = regex.compile(r"\X")


class Word(NamedTuple):
    """A word and its offsets: ``text[start:end] == word.text``."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Split a text into words; punctuation at the edge of a word is a separate word.

    No word begins or ends inside a grapheme cluster.

    Args:
        text: Any text.

    Returns:
        The words, in order; their offsets count characters of ``text``.
    """
    if text.isascii():  # each character is a cluster
        return [Word(match.group(), *match.span()) for match in _WORD.finditer(text)]
    clusters = grapheme_clusters(text)
    starts = list(accumulate(map(len, clusters), initial=0))
    # Each cluster is represented by its first letter or digit, or by its first character.
    skeleton = "".join(c if len(c) == 1 else next(filter(str.isalnum, c), c[0]) for c in clusters)
    offsets = [(starts[match.start()], starts[match.end()]) for match in _WORD.finditer(skeleton)]
    return [Word(text[start:end], start, end) for start, end in offsets]


def grapheme_clusters(text: str) -> list[str]:
    """Split a text into user-perceived characters: a letter with its marks, a joined emoji, a flag.

    Args:
        text: Any text.

    Returns:
        The clusters, in order; each white-space character is a separate cluster.
    """
    clusters: list[str] = []
    for run in re.findall(r"\s|\S+", text):
        clusters += run if run.isascii() else _CLUSTER.findall(run)
    return clusters


def locate_words(tokens: Sequence[str], text: str) -> list[Word]:
    """Locate words in the text that they were taken from.

    Args:
        tokens: Words, in the order of the text.
        text: Text.

    Returns:
        The words with their offsets.

    Raises:
        ValueError: If a word does not occur after the word before it. The message names the word.
    """
    words, start = [], 0
    for i, token in enumerate(tokens):
        position = text.find(token, start)
        if position < 0:
            raise ValueError(f"word {i} of `tokens`, {token!r}, does not occur in `text` after character {start}.")
        start = position + len(token)
        words.append(Word(token, position, start))
    return words


def join_words(tokens: Sequence[str]) -> tuple[str, list[Word]]:
    """Join words with spaces.

    Args:
        tokens: Words.

    Returns:
        The text, and the words with their offsets in it.
    """
    words, start = [], 0
    for token in tokens:
        words.append(Word(token, start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), words
