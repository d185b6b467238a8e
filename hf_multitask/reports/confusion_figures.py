"""Figures of predictions against gold labels: confusion matrices and scatter plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.extras import check_packages
from .class_scores import Confusion
from .figure_style import COLORS, LETTER_WIDTH, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_SHOWN = 30
OTHERS = "others"
# Maximum number of labels with which the cells contain their counts.
MAX_NUMBERED = 16
MAX_NAME = 24  # characters
CELL = 0.34  # inches, like all sizes
FRAME = 1.2
MIN_SIZE = 3.2
DARK = 0.55  # minimum share of its row with which a cell has white digits
SCATTER_SIZE = 3.6
MAX_DOTS = 2000


def shown_labels(confusion: Confusion) -> Confusion:
    """Reduce a confusion matrix to a size that fits into a figure.

    Args:
        confusion: The full matrix.

    Returns:
        The matrix without labels that are neither gold nor predicted. If more than `MAX_SHOWN` labels remain, the ones
        with the most mistakes are kept, and the others are merged into one.
    """
    counts = confusion.counts
    used = np.flatnonzero(counts.sum(0) + counts.sum(1))
    if len(used) <= MAX_SHOWN:
        return Confusion([confusion.names[i] for i in used], counts[np.ix_(used, used)])
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    kept = np.sort(used[np.argsort(-mistakes[used], kind="stable")[: MAX_SHOWN - 1]])
    group = np.full(len(counts), len(kept))
    group[kept] = np.arange(len(kept))
    table = np.zeros((len(kept) + 1, len(kept) + 1), dtype=counts.dtype)
    np.add.at(table, (group[:, None], group[None, :]), counts)
    return Confusion([*(confusion.names[i] for i in kept), OTHERS], table)


def draw_confusion(confusion: Confusion) -> "Figure":
    """Draw a confusion matrix. A cell is darker the larger its share of the row.

    Args:
        confusion: The matrix, from `shown_labels`.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_packages("reports", "a report")
    from matplotlib.figure import Figure

    counts = confusion.counts
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [_short(name) for name in confusion.names]
    size = max(CELL * len(names) + LETTER_WIDTH * max(map(len, names)) + FRAME, MIN_SIZE)
    with figure_style():
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.add_subplot()
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="0.9", linewidth=0.4)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("gold")
        if len(names) <= MAX_NUMBERED:
            for i, j in np.argwhere(counts):
                color = "white" if shares[i, j] > DARK else "black"
                label = _compact(int(counts[i, j]))
                axes.annotate(label, (j + 0.5, i + 0.5), ha="center", va="center", color=color, fontsize=8)
        return figure


def draw_regression(gold: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> "Figure":
    """Draw the predicted numbers of a regression against the gold numbers.

    Args:
        gold: Gold numbers (rows, outputs).
        predicted: Predicted numbers (rows, outputs).
        names: Names of the outputs; empty if there is one output without a name.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_packages("reports", "a report")
    from matplotlib.figure import Figure

    every = -(-len(gold) // MAX_DOTS) or 1
    outputs = gold.shape[1]
    with figure_style():
        width = min(outputs, 3)
        height = -(-outputs // width)
        figure = Figure(figsize=(SCATTER_SIZE * width, SCATTER_SIZE * height), layout="constrained")
        for i in range(outputs):
            axes = figure.add_subplot(height, width, i + 1)
            _scatter(axes, gold[::every, i], predicted[::every, i])
            axes.set_title(names[i] if names else "", loc="left")
        return figure


def _scatter(axes: "Axes", gold: np.ndarray, predicted: np.ndarray) -> None:
    ends = [min(gold.min(), predicted.min()), max(gold.max(), predicted.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1, linestyle="--", label="gold = predicted")
    axes.plot(gold, predicted, linestyle="", marker="o", markersize=3, color=COLORS[0], alpha=0.6)
    axes.set_xlabel("gold")
    axes.set_ylabel("predicted")
    axes.legend(loc="upper left")


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _compact(number: int) -> str:
    """Return a number in at most five characters."""
    return str(number) if number < 100_000 else f"{number / 1000:.0f}k"
