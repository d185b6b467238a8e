"""Error messages for unknown names."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

MAX_NAMES_SHOWN = 20
# Shares of characters in common from which a name, or its first or last words, may be what was meant.
_NEAR_NAME, _NEAR_WORDS = 0.75, 0.85
_SHARE_OF_WORDS = 0.99
_MAX_LETTERS_ADDED, _LETTERS_OF_AN_ABBREVIATION = 2, 4


def unknown_name_message(kind: str, found: object, allowed: Iterable[str]) -> str:
    """Build the message for a name that is not allowed.

    Args:
        kind: Kind of thing that is named, such as ``"task type"``.
        found: Given name.
        allowed: Allowed names.

    Returns:
        The message, with the closest match, if there is a near one, and at most 20 of the allowed names.
    """
    names = list(allowed)
    shown = ", ".join(repr(name) for name in names[:MAX_NAMES_SHOWN])
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return f"unknown {kind} {found!r}.{did_you_mean(found, names)} Allowed: {shown}{more}."


def did_you_mean(found: object, allowed: Iterable[str]) -> str:
    """Return a sentence with the name that was probably meant, with a blank before it; empty if none is near."""
    close = closest_name(found, allowed)
    return "" if close is None else f" Did you mean {close!r}?"


def closest_name(found: object, allowed: Iterable[str]) -> str | None:
    """Return the name that was probably meant; None if none is near.

    A name is near if few of its letters differ, or if it begins or ends with the words that were given, such as
    ``num_train_epochs`` for ``epochs``.
    """
    given = str(found).lower()
    best, best_score = None, 0.0
    for name in allowed:
        whole = _similarity(given, name.lower(), _NEAR_NAME)
        parts = (_similarity(given, part, _NEAR_WORDS) for part in _first_and_last_words(name.lower()))
        # Of equal ones, a whole name is nearer.
        score = max(whole, _SHARE_OF_WORDS * max(parts, default=0.0), _shared_beginning(given, name.lower()))
        if score > best_score:
            best, best_score = name, score
    return best


def _shared_beginning(given: str, name: str) -> float:
    """Return `_NEAR_NAME` if one is the other with a letter or two more (do, does), or abbreviates it (valid)."""
    short, long = sorted((given, name), key=len)
    is_near = len(short) > 1 and len(long) - len(short) <= _MAX_LETTERS_ADDED and long.startswith(short)
    is_abbreviation = len(given) >= _LETTERS_OF_AN_ABBREVIATION and name.startswith(given)
    return _NEAR_NAME if is_near or is_abbreviation else 0.0


def _first_and_last_words(name: str) -> list[str]:
    """Return the parts of a name that begin or end it, whole words each."""
    breaks = [match.span() for match in re.finditer(r"[_.\- ]+", name)]
    return [*(name[:start] for start, _ in breaks), *(name[end:] for _, end in breaks)]


def _similarity(first: str, second: str, least: float) -> float:
    """Return the share of characters in common, from 0 to 1; 0 if it is below a least share."""
    matcher = SequenceMatcher(None, first, second)
    if not first or not second or matcher.quick_ratio() < least:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= least else 0.0
