"""Error messages for unknown names."""

import difflib
from collections.abc import Iterable

MAX_NAMES_SHOWN = 20


def unknown_name_message(kind: str, found: object, allowed: Iterable[str]) -> str:
    """Build the message for a name that is not allowed.

    Args:
        kind: Kind of thing that is named, such as ``"task type"``.
        found: Given name.
        allowed: Allowed names.

    Returns:
        The message, with the closest match, if there is one, and at most 20 of the allowed names.
    """
    names = list(allowed)
    close = difflib.get_close_matches(str(found), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(repr(name) for name in names[:MAX_NAMES_SHOWN])
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return f"unknown {kind} {found!r}.{hint} Allowed: {shown}{more}."
