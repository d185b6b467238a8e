"""Durations in words."""

MINUTE, HOUR = 60, 3600


def in_words(seconds: float) -> str:
    """Return a duration in the unit a reader would choose, such as ``"about 2 minutes"``."""
    if seconds < 10:
        return "a few seconds"
    if seconds < MINUTE:
        return f"about {round(seconds, -1):.0f} seconds"
    unit, size = ("minute", MINUTE) if seconds < 1.5 * HOUR else ("hour", HOUR)
    number = round(seconds / size)
    return f"about {number} {unit}{'' if number == 1 else 's'}"
