"""Numbers of bytes in messages and tables."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(number: float, unit: str | None = None) -> str:
    """Return a number of bytes with its unit.

    Args:
        number: Number of bytes.
        unit: Unit that all cells of a table share, with one decimal; the largest with a number of at least 1 if None.

    Returns:
        The size, such as ``"3.5 MiB"``.
    """
    if unit is not None:
        return f"{number / 1024 ** UNITS.index(unit):.1f} {unit}"
    power = 0
    while number >= 1024 and power < len(UNITS) - 1:
        number, power = number / 1024, power + 1
    return f"{number:.4g} {UNITS[power]}"
