"""Tag schemes that rows may be written in: recognised, read into IOB2, written back.

In each scheme ``O`` is a word outside of all entities.

| Scheme | An entity of three words, one of one word | Rule |
|---|---|---|
| IOB1 | ``I-x I-x I-x``, ``I-x`` | ``B-x`` first where an entity of the same type ends directly before |
| IOB2 | ``B-x I-x I-x``, ``B-x`` | ``B-x`` first, always |
| BILOU | ``B-x I-x L-x``, ``U-x`` | first, inside and last word, and a word that is all of its entity |
| BIOES | ``B-x I-x E-x``, ``S-x`` | the same in other letters; also called IOBES |
| raw | ``x x x``, ``x`` | types alone: neighbouring words of one type are one entity |

Sequences that break their scheme's rule are read as conlleval reads them: a word continues an entity if its tag is I-,
L- or E-, the tag before it is B- or I-, and both have the same type; every other tag but ``O`` starts one. A scheme is
strict about a word if it would have written another tag for what is read: `first_broken_tag`.

A word without a tag, None, is passed over, as the metrics do it: the words around it are read as neighbours.
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
    """What a scheme writes in front of the type of an entity's words."""

    first: str
    inside: str
    last: str
    only: str


_LETTERS = {
    "IOB1": _Letters("I", "I", "I", "I"),  # and B- between neighbours of one type
    "IOB2": _Letters("B", "I", "I", "B"),
    "BILOU": _Letters("B", "I", "L", "U"),
    "BIOES": _Letters("B", "I", "E", "S"),
}
_PREFIXES = {scheme: tuple(f"{x}-" for x in dict.fromkeys(["B", *letters])) for scheme, letters in _LETTERS.items()}
_CONTINUES = ("I-", "L-", "E-")
_OPEN = ("B-", "I-")

# What may be the tag of another scheme, written in another way: B, B_PER, b-per, PER-B.
_LIKE_A_PREFIX = re.compile(r"[BILUES]([-_:./|].*)?|.*[-_:./|][BILUES]", flags=re.IGNORECASE | re.DOTALL)


class BrokenTag(NamedTuple):
    """A word whose tag breaks the rule of its scheme.

    Args:
        word: Which word, from 0.
        tag: Its tag.
        expected: The tag that the scheme has for the word, given the entities that are read.
    """

    word: int
    tag: str
    expected: str


def scheme_of_name(name: str) -> str:
    """Return the tag scheme that a name stands for.

    Args:
        name: One of `TAG_SCHEMES`, or another name of one: ``"BIO"`` for IOB2, ``"IOBES"`` for BIOES, ``"BILUO"``
            and ``"BIOUL"`` for BILOU.

    Returns:
        The scheme's name in `TAG_SCHEMES`.

    Raises:
        ValueError: If there is no such scheme.
    """
    scheme = OTHER_NAMES.get(name, name)
    if scheme not in TAG_SCHEMES:
        raise ValueError(unknown_name_message("tag scheme", name, [*TAG_SCHEMES, *OTHER_NAMES]))
    return scheme


def is_tag_of(tag: object, scheme: str) -> bool:
    """Tell whether a value is a tag of a scheme, wherever it stands.

    Args:
        tag: Any value.
        scheme: The scheme.

    Raises:
        ValueError: If there is no such scheme.
    """
    scheme = scheme_of_name(scheme)
    if not isinstance(tag, str):
        return False
    if scheme == RAW:
        return bool(tag.strip())
    return tag == OUTSIDE or (tag[:2] in _PREFIXES[scheme] and len(tag) > 2)


def first_invalid_tag(tags: Sequence[str | None], scheme: str) -> int | None:
    """Return the first word whose value is no tag of a scheme, None if all are.

    Args:
        tags: One tag a word, None for a word without one.
        scheme: The scheme.

    Raises:
        ValueError: If there is no such scheme.
    """
    foreign = _foreign({tag for tag in tags if tag is not None}, scheme)
    return min(map(tags.index, foreign), default=None)


def tag_forms(scheme: str) -> str:
    """Return the forms that a scheme's tags have, as a message lists them.

    Raises:
        ValueError: If there is no such scheme.
    """
    scheme = scheme_of_name(scheme)
    forms = ["<type>"] if scheme == RAW else [f"{prefix}<type>" for prefix in _PREFIXES[scheme]]
    return f"{', '.join(map(repr, [OUTSIDE, *forms[:-1]]))} or {forms[-1]!r}"


def to_iob2(tags: Sequence[str | None], scheme: str) -> list[str | None]:
    """Read tags of a scheme into IOB2.

    Args:
        tags: One tag a word, None for a word without one.
        scheme: The scheme that they are written in.

    Returns:
        Valid IOB2 tags, whatever the sequence; None where there was None.

    Raises:
        ValueError: If a value is no tag of the scheme, or there is no such scheme. The message names word and tag.
    """
    return _rewrite(tags, scheme, "IOB2")


def to_iob2_checked(tags: Sequence[str | None], scheme: str) -> tuple[list[str | None], BrokenTag | None]:
    """Do what `to_iob2` and `first_broken_tag` do, in one go.

    Args:
        tags: One tag a word, None for a word without one.
        scheme: The scheme that they are written in.

    Returns:
        Valid IOB2 tags, and the first word whose tag breaks the rule of its scheme.

    Raises:
        ValueError: If a value is no tag of the scheme, or there is no such scheme. The message names word and tag.
    """
    scheme = scheme_of_name(scheme)
    spans = _read(tags, scheme)
    read = _write(spans, tags, "IOB2")
    return read, _first_difference(tags, read if scheme == "IOB2" else _write(spans, tags, scheme))


def from_iob2(tags: Sequence[str | None], scheme: str) -> list[str | None]:
    """Write IOB2 tags in another scheme.

    Raw types cannot tell neighbouring entities of one type apart; all other schemes mark the same entities.

    Args:
        tags: One IOB2 tag a word, None for a word without one.
        scheme: The scheme to write.

    Returns:
        Valid tags of the scheme, None where there was None.

    Raises:
        ValueError: If a value is no IOB2 tag, there is no such scheme, or an entity type ``O`` is to be written raw.
    """
    return _rewrite(tags, "IOB2", scheme)


def first_broken_tag(tags: Sequence[str | None], scheme: str) -> BrokenTag | None:
    """Return the first word whose tag breaks the rule of its scheme.

    Args:
        tags: One tag a word, None for a word without one.
        scheme: The scheme that they are written in.

    Returns:
        The word, its tag and the tag that the scheme has for it; None if the sequence is valid. Of an entity that
        BILOU or BIOES leave without its end, that is its last word. Raw types are always valid.

    Raises:
        ValueError: If a value is no tag of the scheme, or there is no such scheme.
    """
    return _first_difference(tags, _rewrite(tags, scheme, scheme))


class SchemeRecognizer:
    """Recognises the scheme that tags are written in, from rows that come one after the other.

    - L- or U- among the prefixes: BILOU. E- or S-: BIOES.
    - Only B- and I-: the one of IOB1 and IOB2 whose rule fewer words break, IOB2 if equal. So I- tags alone are IOB1;
      an IOB2 file in which a few entities start with I- stays IOB2, with broken sequences. Both read the same.
    - Only ``O``: IOB2.
    - No prefixes: raw types.

    Not to be told from tags, so the scheme has to be given: raw types that all begin like a prefix (``B-52`` alone is
    IOB2 of the type ``52``). Refused rather than guessed: prefixes of several schemes, tags with prefixes beside tags
    without, L- or E- without any B- (IOE1 and IOE2 look so), and types that may be tags written in another way, such
    as ``B``, ``B_PER`` or ``PER-B``.
    """

    def __init__(self) -> None:
        # In the order of their first occurrence, which messages keep.
        self.tags: dict[str, None] = {}
        # How often one tag stands behind another, or first: all that the rules of IOB1 and IOB2 look at.
        self._neighbours: Counter[tuple[str, str]] = Counter()

    def add(self, tags: Sequence[str | None]) -> None:
        """Take the tags of a row, None for a word without one.

        Raises:
            ValueError: If a value is no tag of any scheme.
        """
        present = [tag for tag in tags if tag is not None]
        for tag in set(present) - self.tags.keys():
            if not is_tag_of(tag, RAW):
                raise ValueError(f"{tag!r} is no tag of any scheme; expected 'O', '<prefix>-<type>' or '<type>'.")
        self.tags.update(dict.fromkeys(present))
        self._neighbours.update(pairwise([OUTSIDE, *present]))

    def scheme(self) -> str:
        """Return the scheme of all tags so far, one of `TAG_SCHEMES`.

        Raises:
            ValueError: If the tags fit no scheme, or may be meant in several ways. The message lists them.
        """
        found = list(self.tags)
        fitting = [scheme for scheme in _LETTERS if not _foreign(found, scheme)]
        if "IOB2" in fitting:
            return min(("IOB2", "IOB1"), key=self._count_broken)
        if fitting:
            _refuse_ends_alone(found, fitting[0])
            return fitting[0]
        _refuse_mixture(found)
        return RAW

    def _count_broken(self, scheme: str) -> int:
        """Count the words that break the rule of IOB1 or IOB2."""
        return sum(
            count
            for (before, tag), count in self._neighbours.items()
            if _rewrite([before, tag], scheme, scheme)[1] != tag
        )


def _rewrite(tags: Sequence[str | None], source: str, target: str) -> list[str | None]:
    target = scheme_of_name(target)
    return _write(_read(tags, scheme_of_name(source)), tags, target)


def _read(tags: Sequence[str | None], scheme: str) -> list[TagSpan]:
    """Return the entities, their places counted without the words that have no tag."""
    foreign = first_invalid_tag(tags, scheme)
    if foreign is not None:
        raise ValueError(f"{tags[foreign]!r} (word {foreign}) is no {scheme} tag; expected {tag_forms(scheme)}.")
    spans: list[TagSpan] = []
    open_type = None  # of the entity that the next word may continue
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
    """Write what `_read` returns of tags, None where there was None."""
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
    """Write one entity; ``touches`` says that one of the same type ends directly before it."""
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


def _foreign(tags: Iterable[str], scheme: str) -> list[str]:
    """Return the tags that a scheme does not have."""
    return [tag for tag in tags if not is_tag_of(tag, scheme)]


def _refuse_ends_alone(tags: Sequence[str], scheme: str) -> None:
    end = f"{_LETTERS[scheme].last}-"
    ends = [tag for tag in tags if tag.startswith(end)]
    if ends and not any(tag.startswith("B-") for tag in tags):
        raise ValueError(
            f"found {_listed(ends)} but no tag with B-; expected {scheme}, where each entity of several words begins "
            f"with one. Give the tag scheme if it is {scheme}; schemes that can be given: {', '.join(TAG_SCHEMES)}."
        )


def _refuse_mixture(tags: Sequence[str]) -> None:
    """Refuse tags that no scheme with prefixes has, unless none of them looks like one with a prefix."""
    unclear = [tag for tag in tags if _LIKE_A_PREFIX.fullmatch(tag)]
    if not unclear:
        return
    closest = min(("IOB2", "BILOU", "BIOES"), key=lambda scheme: len(_foreign(tags, scheme)))
    raise ValueError(
        f"the tags fit none of the schemes {', '.join(TAG_SCHEMES)}. Closest is {closest}, which does not have "
        f"{_listed(_foreign(tags, closest))}; expected {tag_forms(closest)}. If {_listed(unclear)} are raw types "
        f"rather than tags with a prefix, give the tag scheme {RAW!r}."
    )


def _listed(values: Sequence[str]) -> str:
    more = f" and {len(values) - MAX_NAMES_SHOWN} more" if len(values) > MAX_NAMES_SHOWN else ""
    return ", ".join(repr(value) for value in values[:MAX_NAMES_SHOWN]) + more
