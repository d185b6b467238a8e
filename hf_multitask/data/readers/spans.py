"""Labeled spans of characters, read into one IOB2 tag per word.

Offsets count characters (code points), the end is exclusive, and white space at the edges of a span is ignored. A span
fits if it cuts neither a word nor a combining sequence (a letter and its marks, a joined emoji, a flag), wherever the
boundaries of words are in such a sequence. A span that does not fit is a mismatch, treated in one of three ways:

- ``widen``: the span gets every word that it touches. Two spans that only meet because of this, as New and York in the
  single word New-York, cannot both get the word: the first span gets it, the second keeps its other words, if any.
- ``error``: the span is refused.
- ``drop``: the words that it touches get no label (None). They are neither trained nor scored.

A mismatch is counted once, however it is treated. Spans that overlap in characters are always refused.
"""

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeGuard

from ...models.messages import unknown_name_message
from ...models.tags_iob2 import OUTSIDE
from ...models.text_words import Word, grapheme_clusters

SPAN_MISMATCH = ("widen", "error", "drop")

_KEYS = ("start", "end", "label")
_OFFSET_KEYS = ("start_offset", "end_offset", "label")
_LABELS = "labels"
_COMPARED_KEYS = (*dict.fromkeys((*_KEYS, *_OFFSET_KEYS)), _LABELS)
_FORMS = "{'start': 0, 'end': 5, 'label': 'PER'} or [0, 5, 'PER']"

_EXPECTED = "expected a span of whole words; other values of span_mismatch: 'widen', 'drop'."

# Other units in which tools count offsets: name, codec and number of bytes.
_OTHER_UNITS = (("UTF-16 units, as JavaScript does", "utf-16-le", 2), ("bytes of UTF-8", "utf-8", 1))


class Span(NamedTuple):
    """A labeled span of a row.

    Args:
        start: Index of the first character.
        end: Index after the last character.
        label: Label.
        text: Characters of the span, if the row repeats them.
    """

    start: int
    end: int
    label: str
    text: str | None = None


class SpanTags(NamedTuple):
    """Tags read from the spans of a row.

    Args:
        tags: One IOB2 tag per word; None for a word without a label.
        mismatched: Number of spans that do not fit the words.
    """

    tags: list[str | None]
    mismatched: int


class _StrippedSpan(NamedTuple):
    """A span without white space at its edges, and its name in messages."""

    start: int
    end: int
    label: str
    name: str


def is_span_list(value: object, empty: bool = False) -> TypeGuard[list[object]]:
    """Return whether the value of a token task is a list of spans, rather than of tags.

    Args:
        value: Value of the task's column.
        empty: The result for an empty list, which may be no spans or no tags. It depends on the rest of the row, such
            as ``empty="tokens" not in row``.

    Returns:
        Whether the value is a list of spans. `read_spans` checks whether they are valid.
    """
    if not isinstance(value, (list, tuple)):
        return False
    return any(isinstance(item, (Mapping, list, tuple)) for item in value) if value else empty


def distinct_spans(spans: Sequence[object]) -> list[object]:
    """Return the spans without those that repeat an earlier one, with the same offsets and label."""
    distinct: dict[str, object] = {}
    for item in spans:
        values = [item.get(key) for key in _COMPARED_KEYS] if isinstance(item, Mapping) else item
        distinct.setdefault(repr(values), item)
    return list(distinct.values())


def read_spans(text: str, words: Sequence[Word], value: object, place: str, mismatch: str = "widen") -> SpanTags:
    """Read the spans of a row into tags.

    Args:
        text: Text of the row.
        words: Words of the text, in order.
        value: List of the spans, in a form that `read_span` accepts.
        place: Name of the row in messages.
        mismatch: How to treat a span that does not fit the words, one of `SPAN_MISMATCH`.

    Returns:
        The tags, and the number of spans that do not fit the words.

    Raises:
        ValueError: If a span is malformed, ends after the text, contains only white space, differs from the text that
            it repeats, overlaps another, or does not fit and ``mismatch`` is ``"error"``. The message names the span.
    """
    if mismatch not in SPAN_MISMATCH:
        raise ValueError(f"{place}: {unknown_name_message('span_mismatch', mismatch, SPAN_MISMATCH)}")
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{place}: expected a list of spans, each as {_FORMS}, found {value!r:.80}.")
    read = [_strip_span(text, item, i, place, mismatch) for i, item in enumerate(value)]
    spans = sorted(span for span in read if span is not None)
    _refuse_overlaps(spans, place)
    edges = set(accumulate(map(len, grapheme_clusters(text)), initial=0))
    stripped = [_strip(text, word.start, word.end) for word in words]
    starts, ends = [start for start, _ in stripped], [end for _, end in stripped]
    tags: list[str | None] = [OUTSIDE] * len(words)
    mismatched, num_tagged = read.count(None), 0
    for span in spans:
        start, end = _widen(edges, starts, ends, span)
        first, last = _touched_words(starts, ends, start, end)
        fits = first < last and (start, end) == (span.start, span.end)
        mismatched += not fits
        if not fits and mismatch == "error":
            raise ValueError(
                f"{place}: {span.name} {_describe_mismatch(text, edges, words, span, start, end)}; {_EXPECTED}"
            )
        if not fits and mismatch == "drop":
            tags[first:last] = [None] * (last - first)
            continue
        for word in range(max(first, num_tagged), last):
            tags[word] = f"{'B' if word == max(first, num_tagged) else 'I'}-{span.label}"
        num_tagged = max(num_tagged, last)
    return SpanTags(tags, mismatched)


def read_span(item: object, place: str) -> Span:
    """Read a span, without checking it against the text.

    Args:
        item: Mapping with ``start``, ``end`` and ``label``, or with ``start_offset``, ``end_offset`` and ``label``;
            ``text`` is kept and other keys are ignored. Or a list of start, end and label.
        place: Name of the span in messages.

    Returns:
        The span.

    Raises:
        ValueError: If the span has another form, is empty, or its label is not valid. The message names the key.
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
    if isinstance(label, str) and label.strip() == OUTSIDE:
        raise ValueError(f"{place}: the label {label!r} is not allowed: it is the tag of words outside all spans.")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{place}: the text must be a string, found {text!r:.80} in {item!r:.80}.")
    return Span(start, end, label, text)


def _values(item: object, place: str) -> tuple[Any, Any, Any, Any]:
    if isinstance(item, (list, tuple)) and len(item) == len(_KEYS):
        return (*item, None)
    if not isinstance(item, Mapping):
        raise ValueError(f"{place}: expected {_FORMS}, found {item!r:.80}.")
    keys = _OFFSET_KEYS if "start_offset" in item and "start" not in item else _KEYS
    if "label" not in item and isinstance(item.get(_LABELS), (list, tuple)) and len(item[_LABELS]) == 1:
        item = {**item, "label": item[_LABELS][0]}  # as Label Studio writes spans
    missing = [key for key in keys if key not in item]
    if missing:
        others = [key for key in item if key not in (*_KEYS, *_OFFSET_KEYS, "text")]
        close = [key for key in others if difflib.get_close_matches(str(key), missing)]
        hint = f" {unknown_name_message('key', close[0], dict.fromkeys((*_KEYS, *_OFFSET_KEYS)))}" if close else ""
        raise ValueError(f"{place}: expected {_FORMS}, found no {missing[0]!r} in {item!r:.80}.{hint}")
    return item[keys[0]], item[keys[1]], item[keys[2]], item.get("text")


def _strip_span(text: str, item: object, i: int, place: str, mismatch: str) -> _StrippedSpan | None:
    """Check a span against the text and strip the white space at its edges; None if nothing is left to drop."""
    span = read_span(item, f"{place}: span {i}")
    name = f"span {i} ({span.start} to {span.end}, {span.label!r})"
    if span.end > len(text):
        found = f"ends after the text, which has {len(text)} characters"
        raise ValueError(f"{place}: {name} {found}.{_unit_hint(text, span)}")
    covered = text[span.start : span.end]
    name = f"{name} {covered!r:.80}"
    if span.text is not None and not _same_text(span.text, covered):
        raise ValueError(f"{place}: {name} says that its text is {span.text!r:.80}.{_unit_hint(text, span)}")
    start, end = _strip(text, span.start, span.end)
    if start == end and mismatch == "drop":
        return None
    if start == end:
        raise ValueError(
            f"{place}: {name} contains only white space; expected at least one other character. "
            "`span_mismatch: drop` leaves it out."
        )
    return _StrippedSpan(start, end, span.label.strip(), name)


def _refuse_overlaps(spans: Sequence[_StrippedSpan], place: str) -> None:
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
    """Return a hint at another unit in which the offsets would fit, if there is one."""
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
    """Strip the white space at the edges of a range."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _widen(edges: Collection[int], starts: Sequence[int], ends: Sequence[int], span: _StrippedSpan) -> tuple[int, int]:
    """Widen a span until it cuts neither a word nor a combining sequence. Sequences end at ``edges``."""
    start, end = span.start, span.end
    while True:
        before = start, end
        first, last = _touched_words(starts, ends, start, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        start, end = _sequence_start(edges, start), _sequence_end(edges, end)
        if (start, end) == before:
            return before


def _touched_words(starts: Sequence[int], ends: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Return the first word that shares a character with a range, and the index after the last such word."""
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


def _describe_mismatch(
    text: str, edges: Collection[int], words: Sequence[Word], span: _StrippedSpan, start: int, end: int
) -> str:
    """Describe what a span cuts. ``start`` and ``end`` are its edges after widening."""
    if (start, end) == (span.start, span.end):
        return "covers none of the words"
    edge, cut = ("starts", span.start) if start < span.start else ("ends", span.end)
    for word in words:
        if word.start < cut < word.end:
            return f"{edge} inside the word {word.text!r:.80} ({word.start} to {word.end})"
    sequence = text[_sequence_start(edges, cut) : _sequence_end(edges, cut)]
    return f"{edge} inside the combined character {sequence!r:.80}"
