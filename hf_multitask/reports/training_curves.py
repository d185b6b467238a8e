"""Curves of a training: losses and main metrics by task, learning rates, stages as bands."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..models.layer_groups import layer_ranges
from ..models.tasks import REGRESSION, TaskConfig
from ..runtime.extras import check_packages
from ..runtime.training_history import EVAL_PREFIX, LEARNING_RATE_PREFIX, TrainingHistory
from ..training.metrics import metric_of
from .figure_style import COLORS, LETTER_WIDTH, figure_style, line_style, needs_log_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN_STYLE = {"color": COLORS[0], "linestyle": "-", "linewidth": 1.6}
VALIDATION_STYLE = {"color": COLORS[1], "linestyle": "--", "linewidth": 1.6, "marker": "o", "markersize": 4}
WIDTH = 10.0  # inches, as all sizes
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
# How much of a logarithmic axis a decay to nothing may take, below the smallest peak.
LOG_RANGE = 100
MAX_RATE_LINES = 12
# Points of a line; a long run has more than a picture can show.
MAX_POINTS = 400


class _Line(NamedTuple):
    """Values over the run; NaN where there is none."""

    places: list[float]
    values: list[float]

    @property
    def is_empty(self) -> bool:
        return all(math.isnan(value) for value in self.values)


class _Band(NamedTuple):
    """A stage on the axis of the run."""

    name: str
    start: float
    end: float


class _Course:
    """A run's record on the axis that it is drawn over: epochs, or steps where it was no longer than one epoch.

    Args:
        history: ``trainer.state.log_history``.
        stages: The list in ``stages.json``.
    """

    def __init__(self, history: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> None:
        record = TrainingHistory(history)
        self.logs, self.evaluations = record.train_logs, record.eval_logs
        last = max([*self.logs, *self.evaluations], key=lambda entry: entry["step"], default={"step": 0})
        # A stream is one epoch, however long it is.
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
        """Return the learning rates by layer group; groups with the same ones are one line."""
        prefix = LEARNING_RATE_PREFIX
        names = dict.fromkeys(name for entry in self.logs for name in entry if name.startswith(prefix))
        if not names:
            # An optimizer of the caller's own knows no groups.
            return {"all": self.train("learning_rate")} if self.logs else {}
        groups: dict[tuple[str, ...], list[str]] = {}
        lines = {}
        for name in names:
            line = self.train(name)
            key = tuple(map(repr, line.values))
            groups.setdefault(key, []).append(name.removeprefix(prefix))
            lines[key] = line
        return {", ".join(layer_ranges(groups[key])): line for key, line in lines.items()}

    def _line(self, entries: Sequence[Mapping[str, Any]], name: str) -> _Line:
        key = "epoch" if self.counts_epochs else "step"
        values = [entry.get(name) for entry in entries]
        numbers = [math.nan if value is None or not math.isfinite(value) else float(value) for value in values]
        return _thinned(_Line([float(entry.get(key, 0)) for entry in entries], numbers))


def _thinned(line: _Line) -> _Line:
    """Return a line of at most `MAX_POINTS` points: where it has more, each is the mean of some that follow."""
    size = -(-len(line.values) // MAX_POINTS)
    if size <= 1:
        return line
    places, values = [], []
    for start in range(0, len(line.values), size):
        found = [value for value in line.values[start : start + size] if not math.isnan(value)]
        places.append(sum(line.places[start : start + size]) / len(line.places[start : start + size]))
        values.append(sum(found) / len(found) if found else math.nan)
    return _Line(places, values)


def main_metric(task: TaskConfig) -> str:
    """Return the metric that a task is best known by, without the task's name in front.

    Args:
        task: The task.

    Returns:
        ``"f1"`` of entities, ``"mae"`` of a regression, else ``"accuracy"``.
    """
    return "mae" if task.problem_type == REGRESSION else metric_of(task).main_metric


def draw_curves(
    history: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]], tasks: Sequence[TaskConfig]
) -> "Figure":
    """Draw how a training went.

    For each task its losses, of training and validation, and its main metric; below them the learning rates by layer
    group. The stages are bands behind the curves. What was not recorded is left out.

    Args:
        history: ``trainer.state.log_history``.
        stages: The list in ``stages.json``; empty where there was no schedule.
        tasks: The tasks.

    Returns:
        The figure, for `to_svg` and `to_png`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_packages("reports", "a report")
    from matplotlib.figure import Figure

    course = _Course(history, stages)
    with figure_style():
        figure = Figure()
        grid = _grid(figure, len(tasks) + 1, len(course.rates()))
        for i, task in enumerate(tasks):
            loss, metric = f"{task.name}_loss", f"{task.name}_{main_metric(task)}"
            losses = {"train": course.train(loss), "validation": course.validation(loss)}
            scores = {"validation": course.validation(metric)}
            _draw_task(figure.add_subplot(grid[i, 0]), course, f"{task.name}: loss", losses)
            title = f"{task.name}: {main_metric(task).replace('_', ' ')}"
            _draw_task(figure.add_subplot(grid[i, 1]), course, title, scores)
        _draw_rates(figure.add_subplot(grid[len(tasks), :]), course)
        return figure


def _grid(figure: "Figure", rows: int, num_rates: int) -> Any:
    """Divide a figure into rows of two panels, with room for the legend of the rates below; in fixed sizes.

    A layout that matplotlib works out would draw the figure several times.
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
    """Return the width in inches of a panel that takes one or both columns."""
    inside = WIDTH - MARGIN - RIGHT_MARGIN
    return inside if columns == 2 else (inside - GAP_WIDTH) / 2


def _draw_task(axes: Any, course: _Course, title: str, lines: Mapping[str, _Line]) -> None:
    styles = {"train": TRAIN_STYLE, "validation": VALIDATION_STYLE}
    found = {name: line for name, line in lines.items() if not line.is_empty}
    for name, line in found.items():
        style = styles[name]
        # A single point has no line to be seen by.
        alone = {} if len(line.values) > 1 else {"marker": "o", "markersize": 4}
        axes.plot(*line, label=name, **{**style, **alone})
    _finish(axes, course, title, is_empty=not found)
    if found:
        axes.legend(loc="best")


def _draw_rates(axes: Any, course: _Course) -> None:
    rates = {name: line for name, line in course.rates().items() if not line.is_empty}
    peaks = sorted(max(value for value in line.values if not math.isnan(value)) for line in rates.values())
    peaks = [peak for peak in peaks if peak > 0]
    for i, (name, line) in enumerate(list(rates.items())[:MAX_RATE_LINES]):
        axes.plot(*line, label=name, linewidth=1.6, markersize=3.5, markevery=0.12, **line_style(i))
    if needs_log_scale(peaks, LINEAR_RANGE):
        axes.set_yscale("log")
        axes.set_ylim(bottom=peaks[0] / LOG_RANGE)
        # The usual form of such a number is a formula.
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    more = len(rates) - MAX_RATE_LINES
    title = "learning rate by layer group" + (f" ({more} more groups are not drawn)" if more > 0 else "")
    _finish(axes, course, title, is_empty=not rates)
    axes.set_xlabel(course.label)
    if rates:
        place = (0.0, -0.38 / PANEL_HEIGHT)
        axes.legend(loc="upper left", bbox_to_anchor=place, ncols=LEGEND_COLUMNS, fontsize=8, borderaxespad=0)


def _finish(axes: Any, course: _Course, title: str, is_empty: bool) -> None:
    """Give a panel its title, its scale and the stages."""
    axes.set_xlim(0, course.end or 1)
    axes.margins(y=0.12)
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    if is_empty:
        axes.set_yticks([])
        axes.annotate("not recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="0.4")
    _draw_bands(axes, course)
    axes.set_title(title, loc="left", pad=18 if course.bands else 6)


def _draw_bands(axes: Any, course: _Course) -> None:
    inches = _panel_width(len(axes.get_subplotspec().colspan))
    for i, band in enumerate(course.bands):
        if i % 2 == 0:
            axes.axvspan(band.start, band.end, color=BAND_COLOR, linewidth=0, zorder=0)
        axes.axvline(band.start, color="0.5", linewidth=0.8, zorder=0.5)
        room = inches * (band.end - band.start) / (course.end or 1) / LETTER_WIDTH
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
