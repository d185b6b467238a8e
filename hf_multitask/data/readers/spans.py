"""Labelled spans of characters, read into one IOB2 tag a word.

Offsets count characters (code points), the end is not included, and white space at the edges of a span does not count.
A span fits if it cuts no word and no combining sequence (a letter and its marks, a joined emoji, a flag), wherever the
words part such a sequence. One that does not fit is a mismatch, treated in one of three ways:

- ``widen``: the span gets every word that it touches. Two spans that only meet by this, as New and York in the one
  word New-York, cannot both have it: the first gets the word, the second keeps the rest of its words, if any.
- ``error``: it is refused.
- ``drop``: the words that it touches get no label, None, which is neither trained nor scored.

A mismatch is counted once, whatever became of it. Spans that overlap in characters are always refused.
"""

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from ...models.messages import unknown_name_message
from ...models.tags_iob2 import OUTSIDE
from ...models.text_words import Word, grapheme_clusters

SPAN_MISMATCH = ("widen", "error", "drop")

_KEYS = ("start", "end", "label")
_OFFSET_KEYS = ("start_offset", "end_offset", "label")
_FORMS = "{'start': 0, 'end': 5, 'label': 'PER'} or [0, 5, 'PER']"

_WAYS = "expected a span of whole words; other ways to treat a mismatch: 'widen', 'drop'."

# Other units that tools count offsets in: their name, codec and bytes.
_OTHER_UNITS = (("UTF-16 units, as JavaScript does", "utf-16-le", 2), ("bytes of UTF-8", "utf-8", 1))


class Span(NamedTuple):
    """A labelled span as a row gives it.

    Args:
        start: Its first character.
        end: The character behind its last.
        label: Its label.
        text: Its characters, where the row repeats them.
    """

    start: int
    end: int
    label: str
    text: str | None = None


class SpanTags(NamedTuple):
    """The tags that the spans of a row give.

    Args:
        tags: One IOB2 tag a word, None for a word without a label.
        mismatched: The number of spans that fit no words.
    """

    tags: list[str | None]
    mismatched: int


class _Placed(NamedTuple):
    """A span without white space at its edges, and how messages call it."""

    start: int
    end: int
    label: str
    name: str


def is_span_list(value: Any, empty: bool = False) -> bool:
    """Tell whether the value of a token task is a list of spans rather than of tags.

    Args:
        value: The value of the task's column.
        empty: What an empty list is: no span, or no tag. Only the rest of the row tells, such as
            ``empty="tokens" not in row``.

    Returns:
        Whether it holds spans; whether they are well formed is for `read_spans`.
    """
    if not isinstance(value, (list, tuple)):
        return False
    return any(isinstance(item, (Mapping, list, tuple)) for item in value) if value else empty


def read_spans(text: str, words: Sequence[Word], value: Any, place: str, mismatch: str = "widen") -> SpanTags:
    """Read the spans of a row into tags.

    Args:
        text: The row's text.
        words: Its words, in order.
        value: The list of its spans, each as `read_span` reads it.
        place: Where the row stands, for messages.
        mismatch: What to do with a span that fits no words, one of `SPAN_MISMATCH`.

    Returns:
        The tags, and the number of spans that fit no words.

    Raises:
        ValueError: If a span is malformed, lies outside of the text, holds only white space or another text than it
            says, overlaps another, or does not fit where ``mismatch`` is ``"error"``. The message names the span.
    """
    if mismatch not in SPAN_MISMATCH:
        raise ValueError(f"{place}: {unknown_name_message('way to treat a mismatch', mismatch, SPAN_MISMATCH)}")
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{place}: expected a list of spans, each as {_FORMS}, found {value!r:.80}.")
    spans = sorted(_place_span(text, item, i, place) for i, item in enumerate(value))
    _refuse_overlaps(spans, place)
    edges = set(accumulate(map(len, grapheme_clusters(text)), initial=0))
    stripped = [_strip(text, word.start, word.end) for word in words]
    starts, ends = [start for start, _ in stripped], [end for _, end in stripped]
    tags: list[str | None] = [OUTSIDE] * len(words)
    mismatched = taken = 0
    for span in spans:
        start, end = _widen(edges, starts, ends, span)
        first, last = _touched(starts, ends, start, end)
        fits = first < last and (start, end) == (span.start, span.end)
        mismatched += not fits
        if not fits and mismatch == "error":
            raise ValueError(f"{place}: {span.name} {_misfit(text, edges, words, span, start, end)}; {_WAYS}")
        if not fits and mismatch == "drop":
            tags[first:last] = [None] * (last - first)
            continue
        for word in range(max(first, taken), last):
            tags[word] = f"{'B' if word == max(first, taken) else 'I'}-{span.label}"
        taken = max(taken, last)
    return SpanTags(tags, mismatched)


def read_span(item: Any, place: str) -> Span:
    """Read one span, without the text that it belongs to.

    Args:
        item: A mapping with ``start``, ``end`` and ``label`` or with ``start_offset``, ``end_offset`` and ``label``;
            other keys may be there, and ``text`` is kept. Or a list of start, end and label.
        place: Where it stands, for messages.

    Returns:
        The span.

    Raises:
        ValueError: If it has another form, is empty, or its label is none. The message names the key.
    """
    start, end, label, text = _values(item, place)
    for name, offset in (("start", start), ("end", end)):
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise ValueError(f"{place}: the {name} must be a whole number, found {offset!r:.80} in {item!r:.80}.")
    if not 0 <= start < end:
        raise ValueError(f"{place}: expected 0 <= start < end, found {start} to {end} in {item!r:.80}.")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(
            f"{place}: the label must be a string that is not empty, found {label!r:.80} in {item!r:.80}."
        )
    if label == OUTSIDE:
        raise ValueError(f"{place}: the label {label!r} is refused: it is the tag of a word outside of all spans.")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{place}: the text must be a string, found {text!r:.80} in {item!r:.80}.")
    return Span(start, end, label, text)


def _values(item: Any, place: str) -> tuple[Any, Any, Any, Any]:
    if isinstance(item, (list, tuple)) and len(item) == len(_KEYS):
        return (*item, None)
    if not isinstance(item, Mapping):
        raise ValueError(f"{place}: expected {_FORMS}, found {item!r:.80}.")
    keys = _OFFSET_KEYS if "start_offset" in item and "start" not in item else _KEYS
    missing = [key for key in keys if key not in item]
    if missing:
        others = [key for key in item if key not in (*_KEYS, *_OFFSET_KEYS, "text")]
        close = [key for key in others if difflib.get_close_matches(str(key), missing)]
        hint = f" {unknown_name_message('key', close[0], dict.fromkeys((*_KEYS, *_OFFSET_KEYS)))}" if close else ""
        raise ValueError(f"{place}: expected {_FORMS}, found no {missing[0]!r} in {item!r:.80}.{hint}")
    return item[keys[0]], item[keys[1]], item[keys[2]], item.get("text")


def _place_span(text: str, item: Any, i: int, place: str) -> _Placed:
    """Check a span against the text and take the white space off its edges."""
    span = read_span(item, f"{place}: span {i}")
    name = f"span {i} ({span.start} to {span.end}, {span.label!r})"
    if span.end > len(text):
        found = f"ends behind the text, which has {len(text)} characters"
        raise ValueError(f"{place}: {name} {found}.{_unit_hint(text, span)}")
    covered = text[span.start : span.end]
    name = f"{name} {covered!r:.80}"
    if span.text is not None and not _same_text(span.text, covered):
        raise ValueError(f"{place}: {name} says that its text is {span.text!r:.80}.{_unit_hint(text, span)}")
    start, end = _strip(text, span.start, span.end)
    if start == end:
        raise ValueError(f"{place}: {name} holds only white space; expected at least one other character.")
    return _Placed(start, end, span.label, name)


def _refuse_overlaps(spans: Sequence[_Placed], place: str) -> None:
    for before, span in pairwise(spans):
        if span.start < before.end:
            raise ValueError(
                f"{place}: {before.name} and {span.name} overlap; nested and overlapping entities are not supported "
                "by one token task: use one task per layer."
            )


def _same_text(one: str, other: str) -> bool:
    # Tools repeat a span's text without its line breaks, or without the white space at its edges.
    return "".join(one.split()) == "".join(other.split())


def _unit_hint(text: str, span: Span) -> str:
    """Say in which other unit the offsets fit, if there is one."""
    for unit, codec, size in _OTHER_UNITS:
        data = text.encode(codec, "surrogatepass")
        if span.end * size > len(data):
            continue
        try:
            covered = data[span.start * size : span.end * size].decode(codec)
        except UnicodeDecodeError:
            continue
        if span.text is None or _same_text(span.text, covered):
            return f" The offsets seem to count {unit}; expected characters (code points), as Python counts them."
    return ""


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    """Take the white space off the edges of a range."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _widen(edges: Collection[int], starts: Sequence[int], ends: Sequence[int], span: _Placed) -> tuple[int, int]:
    """Widen a range of characters until it cuts neither a word nor a combining sequence, which end at ``edges``."""
    start, end = span.start, span.end
    while True:
        before = start, end
        first, last = _touched(starts, ends, start, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        start, end = _sequence_start(edges, start), _sequence_end(edges, end)
        if (start, end) == before:
            return before


def _touched(starts: Sequence[int], ends: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Return the first word that shares a character with a range, and the word behind the last."""
    first = bisect_right(ends, start)
    return first, max(first, bisect_left(starts, end))


def _sequence_start(edges: Collection[int], i: int) -> int:
    while i not in edges:
        i -= 1
    return i


def _sequence_end(edges: Collection[int], i: int) -> int:
    while i not in edges:
        i += 1
    return i


def _misfit(text: str, edges: Collection[int], words: Sequence[Word], span: _Placed, start: int, end: int) -> str:
    """Say what a span cuts, given what it had to be widened to."""
    if (start, end) == (span.start, span.end):
        return "covers none of the words"
    edge, cut = ("starts", span.start) if start < span.start else ("ends", span.end)
    for word in words:
        if word.start < cut < word.end:
            return f"{edge} inside the word {word.text!r:.80} ({word.start} to {word.end})"
    sequence = text[_sequence_start(edges, cut) : _sequence_end(edges, cut)]
    return f"{edge} inside the combined character {sequence!r:.80}"
