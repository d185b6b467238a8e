"""Messages about names that are not known."""

import difflib
from collections.abc import Iterable

MAX_NAMES_SHOWN = 20


def unknown_name_message(what: str, found: object, allowed: Iterable[str]) -> str:
    """Build the message for a name that is not one of the allowed ones.

    Args:
        what: What the name stands for, such as ``"task type"``.
        found: The name that was given.
        allowed: The names that exist.

    Returns:
        The message, with the closest match where there is one and at most 20 of the allowed names.
    """
    names = list(allowed)
    close = difflib.get_close_matches(str(found), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(repr(name) for name in names[:MAX_NAMES_SHOWN])
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return f"unknown {what} {found!r}.{hint} Allowed: {shown}{more}."
