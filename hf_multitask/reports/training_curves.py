"""Training curves: losses and main metrics by task, learning rates, and stages as bands."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..models.layer_groups import layer_ranges
from ..models.tasks import REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from ..runtime.extras import check_packages
from ..runtime.training_history import EVAL_PREFIX, LEARNING_RATE_PREFIX, LogEntry, TrainingHistory
from ..training.metrics import metric_of
from .figure_style import COLORS, LETTER_WIDTH, LineStyle, figure_style, line_style, needs_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

TRAIN_STYLE: LineStyle = {"color": COLORS[0], "linestyle": "-", "linewidth": 1.6}
VALIDATION_STYLE: LineStyle = {"color": COLORS[1], "linestyle": "--", "linewidth": 1.6, "marker": "o", "markersize": 4}
WIDTH = 10.0  # inches, like all sizes
PANEL_HEIGHT = 1.8
GAP_HEIGHT = 0.75
GAP_WIDTH = 0.65
MARGIN = 0.55
RIGHT_MARGIN = 0.2
LEGEND_HEIGHT = 0.2
LEGEND_COLUMNS = 3
BAND_COLOR = "0.93"
# Rates that differ by more than this factor are drawn on a logarithmic scale.
LINEAR_RANGE = 20
# Range of a logarithmic axis below the smallest peak, for rates that decay to 0.
LOG_RANGE = 100
MAX_RATE_LINES = 12
# Maximum number of points of a line. A long run has more than a figure can show.
MAX_POINTS = 400


class _Line(NamedTuple):
    """Values over the run; NaN if a value is missing."""

    positions: list[float]
    values: list[float]

    @property
    def is_empty(self) -> bool:
        return all(math.isnan(value) for value in self.values)


class _Band(NamedTuple):
    """Stage on the x-axis."""

    name: str
    start: float
    end: float


class _RunCurves:
    """Curves of a run over its x-axis: epochs, or steps if the run is not longer than one epoch.

    Args:
        history: ``trainer.state.log_history``.
        stages: Contents of ``stages.json``.
    """

    def __init__(self, history: Sequence[LogEntry], stages: Sequence[JsonObject]) -> None:
        record = TrainingHistory(history)
        self.logs, self.evaluations = record.train_logs, record.eval_logs
        last = max([*self.logs, *self.evaluations], key=lambda entry: entry["step"], default={"step": 0})
        # A stream has one epoch, however long it is.
        self.counts_epochs = last.get("epoch", 0) > 1
        scale = last["epoch"] / last["step"] if self.counts_epochs else 1.0
        self.end = last["step"] * scale
        self.bands = []
        for stage in stages:
            start = stage["start_step"] * scale
            self.bands.append(_Band(stage["name"], start, start + stage["steps"] * scale))
            self.end = max(self.end, self.bands[-1].end)

    @property
    def label(self) -> str:
        return "epoch" if self.counts_epochs else "step"

    def train(self, name: str) -> _Line:
        return self._line(self.logs, name)

    def validation(self, name: str) -> _Line:
        return self._line(self.evaluations, f"{EVAL_PREFIX}{name}")

    def rates(self) -> dict[str, _Line]:
        """Return the learning rates by layer group. Groups with equal rates share a line."""
        prefix = LEARNING_RATE_PREFIX
        names = dict.fromkeys(name for entry in self.logs for name in entry if name.startswith(prefix))
        if not names:
            # An optimizer of the caller has no layer groups.
            return {"all": self.train("learning_rate")} if self.logs else {}
        groups: dict[tuple[str, ...], list[str]] = {}
        lines = {}
        for name in names:
            line = self.train(name)
            key = tuple(map(repr, line.values))
            groups.setdefault(key, []).append(name.removeprefix(prefix))
            lines[key] = line
        return {", ".join(layer_ranges(groups[key])): line for key, line in lines.items()}

    def _line(self, entries: Sequence[LogEntry], name: str) -> _Line:
        key = "epoch" if self.counts_epochs else "step"
        values = [entry.get(name) for entry in entries]
        numbers = [math.nan if value is None or not math.isfinite(value) else float(value) for value in values]
        return _thin_out(_Line([float(entry.get(key, 0)) for entry in entries], numbers))


def _thin_out(line: _Line) -> _Line:
    """Reduce a line to at most `MAX_POINTS` points, each the mean of consecutive points."""
    size = -(-len(line.values) // MAX_POINTS)
    if size <= 1:
        return line
    positions, values = [], []
    for start in range(0, len(line.values), size):
        chunk = line.positions[start : start + size]
        recorded = [value for value in line.values[start : start + size] if not math.isnan(value)]
        positions.append(sum(chunk) / len(chunk))
        values.append(sum(recorded) / len(recorded) if recorded else math.nan)
    return _Line(positions, values)


def main_metric(task: TaskConfig) -> str:
    """Return the main metric of a task, without the task's name as prefix.

    Args:
        task: The task.

    Returns:
        ``"f1"`` for entities, ``"mae"`` for a regression, ``"accuracy"`` otherwise.
    """
    return "mae" if task.problem_type == REGRESSION else metric_of(task).main_metric


def draw_curves(history: Sequence[LogEntry], stages: Sequence[JsonObject], tasks: Sequence[TaskConfig]) -> "Figure":
    """Draw the curves of a training run.

    Each task has a panel with its training and validation losses, and one with its main metric. Below them are the
    learning rates by layer group. Stages are bands in the background. Values that were not recorded are omitted.

    Args:
        history: ``trainer.state.log_history``.
        stages: Contents of ``stages.json``; empty without a schedule.
        tasks: The tasks.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_packages("reports", "a report")
    from matplotlib.figure import Figure

    curves = _RunCurves(history, stages)
    with figure_style():
        figure = Figure()
        grid = _grid(figure, len(tasks) + 1, len(curves.rates()))
        for i, task in enumerate(tasks):
            loss, metric = f"{task.name}_loss", f"{task.name}_{main_metric(task)}"
            losses = {"train": curves.train(loss), "validation": curves.validation(loss)}
            scores = {"validation": curves.validation(metric)}
            _draw_task(figure.add_subplot(grid[i, 0]), curves, f"{task.name}: loss", losses)
            title = f"{task.name}: {main_metric(task).replace('_', ' ')}"
            _draw_task(figure.add_subplot(grid[i, 1]), curves, title, scores)
        _draw_rates(figure.add_subplot(grid[len(tasks), :]), curves)
        return figure


def _grid(figure: "Figure", rows: int, num_rates: int) -> "GridSpec":
    """Divide a figure into rows of two panels of fixed size, with room for the legend of the rates at the bottom.

    Sizes are fixed because a layout engine of matplotlib would draw the figure several times.
    """
    legend = LEGEND_HEIGHT * -(-min(num_rates, MAX_RATE_LINES) // LEGEND_COLUMNS)
    bottom = MARGIN + legend
    height = MARGIN + rows * PANEL_HEIGHT + (rows - 1) * GAP_HEIGHT + bottom
    figure.set_size_inches(WIDTH, height)
    return figure.add_gridspec(
        rows,
        2,
        left=MARGIN / WIDTH,
        right=1 - RIGHT_MARGIN / WIDTH,
        top=1 - MARGIN / height,
        bottom=bottom / height,
        hspace=GAP_HEIGHT / PANEL_HEIGHT,
        wspace=GAP_WIDTH / _panel_width(1),
    )


def _panel_width(columns: int) -> float:
    """Return the width in inches of a panel that spans one or both columns."""
    inside = WIDTH - MARGIN - RIGHT_MARGIN
    return inside if columns == 2 else (inside - GAP_WIDTH) / 2


def _draw_task(axes: "Axes", curves: _RunCurves, title: str, lines: Mapping[str, _Line]) -> None:
    styles = {"train": TRAIN_STYLE, "validation": VALIDATION_STYLE}
    recorded = {name: line for name, line in lines.items() if not line.is_empty}
    for name, line in recorded.items():
        style = styles[name].copy()
        if len(line.values) == 1:
            # A single point is only visible as a marker.
            style["marker"], style["markersize"] = "o", 4
        axes.plot(*line, label=name, **style)
    _finish(axes, curves, title, is_empty=not recorded, columns=1)
    if recorded:
        axes.legend(loc="best")


def _draw_rates(axes: "Axes", curves: _RunCurves) -> None:
    rates = {name: line for name, line in curves.rates().items() if not line.is_empty}
    peaks = sorted(max(value for value in line.values if not math.isnan(value)) for line in rates.values())
    peaks = [peak for peak in peaks if peak > 0]
    for i, (name, line) in enumerate(list(rates.items())[:MAX_RATE_LINES]):
        axes.plot(*line, label=name, linewidth=1.6, markersize=3.5, markevery=0.12, **line_style(i))
    if needs_log_scale(peaks, LINEAR_RANGE):
        axes.set_yscale("log")
        axes.set_ylim(bottom=peaks[0] / LOG_RANGE)
        # The default format of these numbers is a formula, which the style does not parse.
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    more = len(rates) - MAX_RATE_LINES
    title = "learning rate by layer group" + (f" ({more} more groups not drawn)" if more > 0 else "")
    _finish(axes, curves, title, is_empty=not rates, columns=2)
    axes.set_xlabel(curves.label)
    if rates:
        anchor = (0.0, -0.38 / PANEL_HEIGHT)
        axes.legend(loc="upper left", bbox_to_anchor=anchor, ncols=LEGEND_COLUMNS, fontsize=8, borderaxespad=0)


def _finish(axes: "Axes", curves: _RunCurves, title: str, is_empty: bool, columns: int) -> None:
    """Set the title, the limits and the grid of a panel, and draw the stages."""
    axes.set_xlim(0, curves.end or 1)
    axes.margins(y=0.12)
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    if is_empty:
        axes.set_yticks([])
        axes.annotate("not recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="0.4")
    _draw_bands(axes, curves, _panel_width(columns))
    axes.set_title(title, loc="left", pad=18 if curves.bands else 6)


def _draw_bands(axes: "Axes", curves: _RunCurves, width: float) -> None:
    for i, band in enumerate(curves.bands):
        if i % 2 == 0:
            axes.axvspan(band.start, band.end, color=BAND_COLOR, linewidth=0, zorder=0)
        axes.axvline(band.start, color="0.5", linewidth=0.8, zorder=0.5)
        room = width * (band.end - band.start) / (curves.end or 1) / LETTER_WIDTH
        label = next((text for text in (f"{i + 1} {band.name}", str(i + 1)) if len(text) <= room), "")
        axes.annotate(
            label,
            ((band.start + band.end) / 2, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8,
            color="0.25",
        )
