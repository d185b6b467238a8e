"""Style shared by all figures: colors, lines, rc settings, and the writers of SVG and PNG files."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..runtime.extras import check_packages

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import LineStyleType

FIGURE_SUFFIXES = (".png", ".svg")
# Colors of Okabe and Ito (2008, Color Universal Design), the darker ones first: yellow is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Dashes and markers distinguish lines without color. Seven colors and five dashes repeat after 35 lines.
DASHES: tuple["LineStyleType", ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
# The date and the creator would make two files of the same figure differ.
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
PNG_DPI = 130
LETTER_WIDTH = 0.075  # inches


class LineStyle(TypedDict, total=False):
    """Keyword arguments of matplotlib's ``plot`` for the look of a line."""

    color: str
    linestyle: "LineStyleType"
    linewidth: float
    marker: str
    markersize: float


def check_figure_path(path: str | Path) -> None:
    """Raise if a figure cannot be drawn.

    Args:
        path: File to write the figure to.

    Raises:
        ValueError: If the suffix is not one of `FIGURE_SUFFIXES`.
        ImportError: If matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(
            f"picture: expected a file that ends with {' or '.join(FIGURE_SUFFIXES)}, found {str(path)!r}."
        )
    check_packages("plots", "a figure")


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the style to figures that are created or saved inside the context."""
    import matplotlib

    with matplotlib.rc_context(
        {
            # Labels are not formulas, and the text of an SVG stays text.
            "text.parse_math": False,
            "svg.fonttype": "none",
            # Makes the ids of an SVG reproducible.
            "svg.hashsalt": "curves",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "legend.frameon": False,
            "path.simplify": True,
        }
    ):
        yield


def line_style(index: int) -> LineStyle:
    """Return a color, dashes and a marker that distinguish a line from the other lines of its figure.

    Args:
        index: Index of the line.

    Returns:
        Keyword arguments of matplotlib's ``plot``.
    """
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def needs_log_scale(values: Sequence[float], linear_range: float) -> bool:
    """Return whether values span too wide a range for a linear scale.

    Args:
        values: Values to draw. Those that are not positive are ignored.
        linear_range: Largest ratio of the maximum to the minimum that a linear scale shows well.
    """
    positive = [value for value in values if value > 0]
    return bool(positive) and max(positive) > linear_range * min(positive)


def to_svg(figure: "Figure") -> str:
    """Return a figure as the text of an SVG file.

    The text is reproducible, and the words of the figure are text elements, not outlines.
    """
    text = io.StringIO()
    with figure_style():
        figure.savefig(text, format="svg", metadata=NO_METADATA)
    return text.getvalue()


def to_png(figure: "Figure") -> bytes:
    """Return a figure as the bytes of a PNG file."""
    image = io.BytesIO()
    with figure_style():
        figure.savefig(image, format="png", dpi=PNG_DPI)
    return image.getvalue()
