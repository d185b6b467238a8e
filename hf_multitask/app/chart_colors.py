"""Colors of the curves and points in charts."""

from collections.abc import Iterable

from ..reports.figure_style import COLORS

# In dark mode, the background is nearly black.
_GRAY = "#808080"
_BASE = tuple(_GRAY if color == "#000000" else color for color in COLORS)
# Of white, with which the colors are mixed once they are used up; of black, if negative.
_MIXTURES = (0.0, 0.5, -0.4)


def chart_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a color for each name. The first 21 differ.

    Args:
        names: What is drawn, in the order of the legend.
    """
    return {name: _color(number) for number, name in enumerate(dict.fromkeys(names))}


def _color(number: int) -> str:
    mixture = _MIXTURES[number // len(_BASE) % len(_MIXTURES)]
    target = 255 if mixture > 0 else 0
    base = bytes.fromhex(_BASE[number % len(_BASE)][1:])
    return "#" + "".join(f"{round(part + abs(mixture) * (target - part)):02X}" for part in base)
