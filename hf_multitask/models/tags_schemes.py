"""Tag schemes of rows: recognition, conversion to IOB2 and back.

In each scheme, ``O`` is a word outside of all entities.

| Scheme | An entity of three words, one of one word | Rule |
|---|---|---|
| IOB1 | ``I-x I-x I-x``, ``I-x`` | ``B-x`` first, only if an entity of the same type ends directly before |
| IOB2 | ``B-x I-x I-x``, ``B-x`` | ``B-x`` first, always |
| BILOU | ``B-x I-x L-x``, ``U-x`` | first, inside and last word, and a word that is a whole entity |
| BIOES | ``B-x I-x E-x``, ``S-x`` | BILOU with other letters; also called IOBES |
| raw | ``x x x``, ``x`` | only types: neighboring words of one type are one entity |

Sequences that break the rule of their scheme are read as in conlleval: a word continues an entity if its tag is I-, L-
or E-, the tag before it is B- or I-, and both have the same type; every other tag except ``O`` starts an entity. A tag
is broken if the scheme would write another tag for the entities that are read, see `first_broken_tag`.

A word without a tag, None, is skipped, as in the metrics: the words around it are read as neighbors.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from .messages import MAX_NAMES_SHOWN, unknown_name_message
from .tags_iob2 import OUTSIDE, TagSpan

RAW = "raw"
TAG_SCHEMES = ("IOB1", "IOB2", "BILOU", "BIOES", RAW)
OTHER_NAMES = {"BIO": "IOB2", "IOBES": "BIOES", "BILUO": "BILOU", "BIOUL": "BILOU"}


class _Letters(NamedTuple):
    """Prefixes of the words of an entity in a scheme."""

    first: str
    inside: str
    last: str
    only: str


_LETTERS = {
    "IOB1": _Letters("I", "I", "I", "I"),  # and B- between neighbors of one type
    "IOB2": _Letters("B", "I", "I", "B"),
    "BILOU": _Letters("B", "I", "L", "U"),
    "BIOES": _Letters("B", "I", "E", "S"),
}
_PREFIXES = {scheme: tuple(f"{x}-" for x in dict.fromkeys(["B", *letters])) for scheme, letters in _LETTERS.items()}
_CONTINUES = ("I-", "L-", "E-")
_OPEN = ("B-", "I-")

# Values that may be tags in another notation: B, B_PER, b-per, PER-B.
_LIKE_A_PREFIX = re.compile(r"[BILUES]([-_:./|].*)?|.*[-_:./|][BILUES]", flags=re.IGNORECASE | re.DOTALL)


class BrokenTag(NamedTuple):
    """A word whose tag breaks the rule of its scheme.

    Args:
        word: Index of the word.
        tag: Tag of the word.
        expected: Tag that the scheme has for the word, given the entities that are read.
    """

    word: int
    tag: str
    expected: str


def scheme_of_name(name: str) -> str:
    """Return the tag scheme of a name.

    Args:
        name: One of `TAG_SCHEMES`, or an alias: ``"BIO"`` for IOB2, ``"IOBES"`` for BIOES, ``"BILUO"`` and ``"BIOUL"``
            for BILOU.

    Returns:
        The scheme's name in `TAG_SCHEMES`.

    Raises:
        ValueError: If the scheme is unknown.
    """
    scheme = OTHER_NAMES.get(name, name)
    if scheme not in TAG_SCHEMES:
        raise ValueError(unknown_name_message("tag scheme", name, [*TAG_SCHEMES, *OTHER_NAMES]))
    return scheme


def is_tag_of(tag: object, scheme: str) -> bool:
    """Return whether a value is a tag of a scheme, at any position.

    Args:
        tag: Any value.
        scheme: Scheme.

    Raises:
        ValueError: If the scheme is unknown.
    """
    scheme = scheme_of_name(scheme)
    if not isinstance(tag, str):
        return False
    if scheme == RAW:
        return bool(tag.strip())
    return tag == OUTSIDE or (tag[:2] in _PREFIXES[scheme] and len(tag) > 2)


def first_invalid_tag(tags: Sequence[str | None], scheme: str) -> int | None:
    """Return the index of the first word whose value is not a tag of a scheme, or None if all are.

    Args:
        tags: One tag per word, None for a word without a tag.
        scheme: Scheme.

    Raises:
        ValueError: If the scheme is unknown.
    """
    invalid = _invalid_tags({tag for tag in tags if tag is not None}, scheme)
    return min(map(tags.index, invalid), default=None)


def tag_forms(scheme: str) -> str:
    """Return the forms of a scheme's tags, as messages list them.

    Raises:
        ValueError: If the scheme is unknown.
    """
    scheme = scheme_of_name(scheme)
    forms = ["<type>"] if scheme == RAW else [f"{prefix}<type>" for prefix in _PREFIXES[scheme]]
    return f"{', '.join(map(repr, [OUTSIDE, *forms[:-1]]))} or {forms[-1]!r}"


def to_iob2(tags: Sequence[str | None], scheme: str) -> list[str | None]:
    """Convert tags of a scheme to IOB2.

    Args:
        tags: One tag per word, None for a word without a tag.
        scheme: Scheme of the tags.

    Returns:
        Valid IOB2 tags, even for a broken sequence; None for a word without a tag.

    Raises:
        ValueError: If a value is not a tag of the scheme, or the scheme is unknown. The message names word and tag.
    """
    return _rewrite(tags, scheme, "IOB2")


def to_iob2_checked(tags: Sequence[str | None], scheme: str) -> tuple[list[str | None], BrokenTag | None]:
    """Return the results of `to_iob2` and `first_broken_tag` from one pass.

    Args:
        tags: One tag per word, None for a word without a tag.
        scheme: Scheme of the tags.

    Returns:
        Valid IOB2 tags, and the first word whose tag breaks the rule of its scheme.

    Raises:
        ValueError: If a value is not a tag of the scheme, or the scheme is unknown. The message names word and tag.
    """
    scheme = scheme_of_name(scheme)
    spans = _read(tags, scheme)
    read = _write(spans, tags, "IOB2")
    return read, _first_difference(tags, read if scheme == "IOB2" else _write(spans, tags, scheme))


def from_iob2(tags: Sequence[str | None], scheme: str) -> list[str | None]:
    """Convert IOB2 tags to another scheme.

    Raw types merge neighboring entities of one type; all other schemes mark the same entities.

    Args:
        tags: One IOB2 tag per word, None for a word without a tag.
        scheme: Scheme to convert to.

    Returns:
        Valid tags of the scheme; None for a word without a tag.

    Raises:
        ValueError: If a value is not an IOB2 tag, the scheme is unknown, or an entity type is ``O`` and the scheme
            raw.
    """
    return _rewrite(tags, "IOB2", scheme)


def first_broken_tag(tags: Sequence[str | None], scheme: str) -> BrokenTag | None:
    """Return the first word whose tag breaks the rule of its scheme.

    Args:
        tags: One tag per word, None for a word without a tag.
        scheme: Scheme of the tags.

    Returns:
        The word, its tag and the tag that the scheme has for it; None if the sequence is valid. If an entity in BILOU
        or BIOES has no end, it is the entity's last word. Raw types are always valid.

    Raises:
        ValueError: If a value is not a tag of the scheme, or the scheme is unknown.
    """
    return _first_difference(tags, _rewrite(tags, scheme, scheme))


class SchemeRecognizer:
    """Recognizes the tag scheme of rows that are added one by one.

    - L- or U- among the prefixes: BILOU. E- or S-: BIOES.
    - Only B- and I-: IOB1 or IOB2, whichever rule fewer words break, IOB2 if equal. So I- tags without B- are IOB1; an
      IOB2 file in which a few entities start with I- stays IOB2, with broken sequences. Both are read as the same
      entities.
    - Only ``O``: IOB2.
    - No prefixes: raw types.

    The scheme must be given for raw types that all start like a prefix (``B-52`` without other tags is IOB2 of the
    type ``52``), because the tags do not show it. Raises instead of guessing for prefixes of several schemes, tags
    with and without prefixes, L- or E- without any B- (as in IOE1 and IOE2), and types that may be tags in another
    notation, such as ``B``, ``B_PER`` or ``PER-B``.
    """

    def __init__(self) -> None:
        # In the order of their first occurrence, which messages keep.
        self.tags: dict[str, None] = {}
        # Counts of pairs of neighboring tags, the start of a row included: all that the rules of IOB1 and IOB2 need.
        self._neighbors: Counter[tuple[str, str]] = Counter()

    def add(self, tags: Sequence[str | None]) -> None:
        """Add the tags of a row, None for a word without a tag.

        Raises:
            ValueError: If a value is not a tag of any scheme.
        """
        present = [tag for tag in tags if tag is not None]
        for tag in set(present) - self.tags.keys():
            if not is_tag_of(tag, RAW):
                raise ValueError(f"{tag!r} is not a tag of any scheme; expected 'O', '<prefix>-<type>' or '<type>'.")
        self.tags.update(dict.fromkeys(present))
        self._neighbors.update(pairwise([OUTSIDE, *present]))

    @property
    def counts(self) -> dict[str, int]:
        """Number of words with each tag."""
        counts = dict.fromkeys(self.tags, 0)
        for (_, tag), count in self._neighbors.items():
            counts[tag] += count
        return counts

    def with_outside(self, outside: str) -> "SchemeRecognizer":
        """Return a recognizer of the same tags in which ``outside`` is ``O``."""
        renamed = SchemeRecognizer()
        renamed.tags = {OUTSIDE if tag == outside else tag: None for tag in self.tags}
        for pair, count in self._neighbors.items():
            before, tag = (OUTSIDE if tag == outside else tag for tag in pair)
            renamed._neighbors[before, tag] += count
        return renamed

    def scheme(self) -> str:
        """Return the scheme of all added tags, one of `TAG_SCHEMES`.

        Raises:
            ValueError: If the tags fit no scheme or are ambiguous. The message lists them.
        """
        tags = list(self.tags)
        fitting = [scheme for scheme in _LETTERS if not _invalid_tags(tags, scheme)]
        if "IOB2" in fitting:
            return min(("IOB2", "IOB1"), key=self._count_broken)
        if fitting:
            _check_ends(tags, fitting[0])
            return fitting[0]
        _check_no_prefixes(tags)
        return RAW

    def _count_broken(self, scheme: str) -> int:
        """Count the words that break the rule of IOB1 or IOB2."""
        return sum(
            count
            for (before, tag), count in self._neighbors.items()
            if _rewrite([before, tag], scheme, scheme)[1] != tag
        )


def _rewrite(tags: Sequence[str | None], source: str, target: str) -> list[str | None]:
    target = scheme_of_name(target)
    return _write(_read(tags, scheme_of_name(source)), tags, target)


def _read(tags: Sequence[str | None], scheme: str) -> list[TagSpan]:
    """Return the entities; their positions do not count the words without a tag."""
    invalid = first_invalid_tag(tags, scheme)
    if invalid is not None:
        raise ValueError(f"{tags[invalid]!r} (word {invalid}) is not a tag of {scheme}; expected {tag_forms(scheme)}.")
    spans: list[TagSpan] = []
    open_type = None  # type of the entity that the next word may continue
    for i, tag in enumerate(tag for tag in tags if tag is not None):
        if tag == OUTSIDE:
            open_type = None
            continue
        prefix, kind = ("I-", tag) if scheme == RAW else (tag[:2], tag[2:])
        if prefix in _CONTINUES and kind == open_type:
            spans[-1] = TagSpan(kind, spans[-1].start, i + 1)
        else:
            spans.append(TagSpan(kind, i, i + 1))
        open_type = kind if prefix in _OPEN else None
    return spans


def _write(spans: Sequence[TagSpan], tags: Sequence[str | None], scheme: str) -> list[str | None]:
    """Return the tags of the entities that `_read` returns; None for a word without a tag."""
    written = [OUTSIDE] * sum(tag is not None for tag in tags)
    before = None
    for span in spans:
        touches = before is not None and (before.label, before.end) == (span.label, span.start)
        written[span.start : span.end] = _span_tags(span, scheme, touches)
        before = span
    following = iter(written)
    return [None if tag is None else next(following) for tag in tags]


def _first_difference(tags: Sequence[str | None], expected: Sequence[str | None]) -> BrokenTag | None:
    for i, (tag, wanted) in enumerate(zip(tags, expected, strict=True)):
        if tag is not None and wanted is not None and tag != wanted:
            return BrokenTag(i, tag, wanted)
    return None


def _span_tags(span: TagSpan, scheme: str, touches: bool) -> list[str]:
    """Return the tags of one entity; ``touches`` if an entity of the same type ends directly before it."""
    length = span.end - span.start
    if scheme == RAW:
        if span.label == OUTSIDE:
            raise ValueError("an entity type 'O' cannot be written raw: there 'O' is a word outside of all entities.")
        return [span.label] * length
    letters = _LETTERS[scheme]
    chosen = [letters.first, *[letters.inside] * (length - 2), letters.last] if length > 1 else [letters.only]
    if scheme == "IOB1" and touches:
        chosen[0] = "B"
    return [f"{letter}-{span.label}" for letter in chosen]


def _invalid_tags(tags: Iterable[str], scheme: str) -> list[str]:
    """Return the tags that are not tags of a scheme."""
    return [tag for tag in tags if not is_tag_of(tag, scheme)]


def _check_ends(tags: Sequence[str], scheme: str) -> None:
    """Raise if tags have ends of entities but no beginnings."""
    end = f"{_LETTERS[scheme].last}-"
    ends = [tag for tag in tags if tag.startswith(end)]
    if ends and not any(tag.startswith("B-") for tag in tags):
        raise ValueError(
            f"found {_quoted_list(ends)} but no tag with B-; expected {scheme}, where each entity of several words "
            f"begins with one. Give the tag scheme if it is {scheme}; allowed schemes: {', '.join(TAG_SCHEMES)}."
        )


def _check_no_prefixes(tags: Sequence[str]) -> None:
    """Raise if tags that fit no scheme with prefixes include one that looks as if it had a prefix."""
    ambiguous = [tag for tag in tags if _LIKE_A_PREFIX.fullmatch(tag)]
    if not ambiguous:
        return
    closest = min(("IOB2", "BILOU", "BIOES"), key=lambda scheme: len(_invalid_tags(tags, scheme)))
    raise ValueError(
        f"the tags fit none of the schemes {', '.join(TAG_SCHEMES)}. Closest is {closest}, which does not have "
        f"{_quoted_list(_invalid_tags(tags, closest))}; expected {tag_forms(closest)}. If "
        f"{_quoted_list(ambiguous)} are raw types rather than tags with a prefix, give the tag scheme {RAW!r}."
    )


def _quoted_list(values: Sequence[str]) -> str:
    more = f" and {len(values) - MAX_NAMES_SHOWN} more" if len(values) > MAX_NAMES_SHOWN else ""
    return ", ".join(repr(value) for value in values[:MAX_NAMES_SHOWN]) + more
