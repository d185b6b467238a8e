"""Figures of the conflict between two tasks: the cosine of their gradients by layer group and step."""

import math
import statistics
from typing import TYPE_CHECKING

from ..runtime.extras import check_packages
from ..training.conflict_log import PairConflict
from .figure_style import LETTER_WIDTH, figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches, like all sizes.
WIDTH = 10.0
ROW_HEIGHT = 0.22
FRAME = 1.1
# Columns of a figure. In a long run, each is the mean of consecutive comparisons.
MAX_COLUMNS = 150
NOT_TRAINED = "0.8"


def draw_conflict(pair: PairConflict) -> "Figure":
    """Draw the cosines of two tasks by layer group, the highest layer on top, over the steps.

    Args:
        pair: Cosines of the two tasks.

    Returns:
        The figure. Groups that did not train at a step are gray there.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_packages("reports", "a report")
    import numpy as np
    from matplotlib.figure import Figure

    names = list(pair.cosines)
    size = -(-len(pair.steps) // MAX_COLUMNS)
    starts = range(0, len(pair.steps), size)
    cells = [[_mean(pair.cosines[name][start : start + size]) for start in starts] for name in names]
    ends = [0, *(pair.steps[min(start + size, len(pair.steps)) - 1] for start in starts)]
    with figure_style():
        height = FRAME + ROW_HEIGHT * len(names)
        figure = Figure(figsize=(WIDTH, height))
        left = 0.3 + LETTER_WIDTH * max(map(len, names))
        axes = figure.add_axes(
            (left / WIDTH, 0.6 / height, 1 - (left + 1.2) / WIDTH, ROW_HEIGHT * len(names) / height)
        )
        axes.set_facecolor(NOT_TRAINED)
        mesh = axes.pcolormesh(
            ends, np.arange(len(names) + 1), np.ma.masked_invalid(cells), cmap="RdBu", vmin=-1, vmax=1
        )
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("step")
        axes.set_title(f"{pair.tasks[0]} and {pair.tasks[1]}: cosine of the gradients", loc="left", pad=6)
        bar = figure.add_axes((1 - 1.0 / WIDTH, 0.6 / height, 0.15 / WIDTH, ROW_HEIGHT * len(names) / height))
        figure.colorbar(mesh, cax=bar, ticks=[-1, 0, 1])
        return figure


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else math.nan
