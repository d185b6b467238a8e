"""The tag of words outside of all entities: ``O``, or what a file has instead."""

import re
from collections.abc import Mapping

from ...models.tags_iob2 import OUTSIDE
from ...models.tags_schemes import RAW

# Never the name of an entity type.
_CERTAIN = {"o", "0", "_", "-"}
# The outside tag, or the name of an entity type.
_POSSIBLE = _CERTAIN | {"other", "others", "none", "null", "nil", "outside", "out", "n/a", "na", "<none>", "-1"}
_PREFIXED = re.compile(r"[BILUES]-.+", flags=re.DOTALL)
MAX_SHOWN = 10


def find_outside(tags: Mapping[str, int]) -> str | None:
    """Return the tag that certainly stands for ``O``, or None if there is none or it is ``O``.

    Next to tags with prefixes it is the only tag without one, if it is a usual name of ``O``. Among raw types it is
    one of ``0``, ``_``, ``o`` and ``-``, unless all tags are numbers.

    Args:
        tags: The tags, with their counts.
    """
    if OUTSIDE in tags:
        return None
    bare = [tag for tag in tags if not _PREFIXED.fullmatch(tag)]
    if len(bare) < len(tags):
        return bare[0] if len(bare) == 1 and bare[0].casefold() in _POSSIBLE else None
    found = [tag for tag in bare if tag.casefold() in _CERTAIN]
    return found[0] if len(found) == 1 and not all(tag.isdigit() for tag in bare) else None


def check_outside(tags: Mapping[str, int], scheme: str, is_scheme_given: bool) -> None:
    """Raise if raw types have no tag for words outside of entities.

    Args:
        tags: The tags, with their counts.
        scheme: The scheme of the tags.
        is_scheme_given: Whether the config names the scheme. Types without ``O`` are then only refused if one of them
            may stand for it.

    Raises:
        ValueError: If no tag is ``O``. The message names the candidates.
    """
    if scheme != RAW or OUTSIDE in tags or not tags:
        return
    candidates = [tag for tag in tags if tag.casefold() in _POSSIBLE]
    if is_scheme_given and not candidates:
        return
    if all(tag.isdigit() for tag in tags):
        raise ValueError(
            f"the tags are numbers: {_listed(tags)}. Give the task's `labels`, with their names in the order of the "
            "numbers."
        )
    likely = f" It may be {', '.join(map(repr, candidates))}." if candidates else ""
    raise ValueError(
        f"no tag is {OUTSIDE!r}, so that each word would be an entity; found {_listed(tags)}. Give `outside_tag`, the "
        f"tag of words outside of all entities.{likely} If every word has a type, as with parts of speech, give "
        f"`outside_tag: {OUTSIDE}`."
    )


def _listed(tags: Mapping[str, int]) -> str:
    names = sorted(tags, key=lambda tag: -tags[tag])
    shown = ", ".join(f"{name!r} ({tags[name]} words)" for name in names[:MAX_SHOWN])
    return shown + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")
