"""Spans whose offsets count words instead of characters."""

from collections.abc import Mapping, Sequence

from ...models.text_inputs import TEXT_COLUMN, TOKENS_COLUMN
from ...models.text_words import Word, locate_words
from ...models.type_aliases import Row
from .rows import Rows
from .spans import Span, is_span_list, read_span

WORDS, WORDS_INCLUSIVE = WORD_UNITS = ("words", "words_inclusive")
SPAN_UNITS = ("characters", *WORD_UNITS)

_OFFSETS = (("start", "end"), ("start_offset", "end_offset"))


def character_spans(words: Sequence[Word], spans: Sequence[object], place: str, is_inclusive: bool) -> list[Row]:
    """Convert spans of words to spans of characters.

    Args:
        words: Words of the row, with their offsets.
        spans: Spans in a form that `read_span` accepts, with numbers of words as offsets.
        place: Name of the row in messages.
        is_inclusive: Whether the end is the last word, and not the word after it.

    Raises:
        ValueError: If a span is malformed or ends after the last word. The message names the span.
    """
    converted = []
    for i, item in enumerate(spans):
        span = _read_word_span(item, f"{place}: span {i}", is_inclusive)
        if span.end > len(words):
            unit = WORDS_INCLUSIVE if is_inclusive else WORDS
            raise ValueError(
                f"{place}: span {i}, {item!r:.80}, ends after the last of {len(words)} words (span_unit={unit!r})."
            )
        start, end = words[span.start].start, words[span.end - 1].end
        converted.append({"start": start, "end": end, "label": span.label})
    return converted


def refuse_word_offsets(rows: Rows, column: str) -> None:
    """Raise if the spans of rows can't be spans of characters but may be spans of words.

    They can't if there is no text, or if all of them are within the number of words and most of them cut words.

    Args:
        rows: The rows.
        column: Column of the spans.

    Raises:
        ValueError: If the spans seem to count words. The message names the first row and the options.
    """
    first, num_spans, num_cut = None, 0, 0
    for i, row in enumerate(rows.rows):
        spans = row.get(column)
        if not spans or isinstance(spans[0], str):
            continue
        tokens = row.get(TOKENS_COLUMN)
        if tokens is None or not is_span_list(spans):
            continue
        offsets = [_offsets(item) for item in spans]
        if any(pair is None or not 0 <= pair[0] <= pair[1] <= len(tokens) for pair in offsets):
            return
        first = i if first is None else first
        text = row.get(TEXT_COLUMN)
        num_spans += len(offsets)
        num_cut += len(offsets) if text is None else sum(_cuts_words(tokens, text, pair) for pair in offsets if pair)
    if first is not None and num_cut > num_spans / 2:
        raise ValueError(
            f"{rows.place(first)}: column {column!r}: the offsets of the spans seem to count words, found "
            f"{rows.rows[first][column][0]!r:.80}. Give `span_unit: {WORDS}` if the end is the word after the span, "
            f"`span_unit: {WORDS_INCLUSIVE}` if it is its last word, or `span_unit: characters`."
        )


def _read_word_span(item: object, place: str, is_inclusive: bool) -> Span:
    offsets = _offsets(item) if is_inclusive else None
    if offsets is None:
        return read_span(item, place)
    start, end = offsets[0], offsets[1] + 1
    if isinstance(item, Mapping):
        names = next(names for names in _OFFSETS if names[0] in item)
        return read_span({**item, names[0]: start, names[1]: end}, place)
    return read_span([start, end, *list(item)[2:]], place)  # type: ignore[call-overload]


def _offsets(item: object) -> tuple[int, int] | None:
    """Return start and end of a span, or None if it has another form."""
    if isinstance(item, Mapping):
        pair = next(([item[start], item[end]] for start, end in _OFFSETS if start in item and end in item), [])
    else:
        pair = list(item[:2]) if isinstance(item, (list, tuple)) and len(item) == 3 else []
    if len(pair) != 2 or not all(isinstance(offset, int) and not isinstance(offset, bool) for offset in pair):
        return None
    return pair[0], pair[1]


def _cuts_words(tokens: Sequence[str], text: str, offsets: tuple[int, int]) -> bool:
    """Return whether characters start or end inside a word of the text, or are none."""
    start, end = offsets
    try:
        words = locate_words(tokens, text)
    except ValueError:  # refused when the spans are read
        return False
    return start == end or any(word.start < cut < word.end for word in words for cut in offsets) or end > len(text)
