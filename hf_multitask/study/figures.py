"""Figures of a study."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..reports.figure_style import COLORS, figure_style, line_style, needs_log_scale
from ..reports.training_curves import draw_curves
from .study_results import Score, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All sizes are in inches.
WIDTH = 10.0
ROW_HEIGHT = 0.27
FRAME_HEIGHT = 1.1
PANEL_HEIGHT = 4.2
SIZES_HEIGHT = 3.4
# Times and sizes that differ by more than this factor are drawn on a logarithmic scale.
LINEAR_RANGE = 8
FRONT_COLOR, OTHER_COLOR = COLORS[0], "0.45"


@dataclass(frozen=True)
class NamedFigure:
    """A figure of a study.

    Args:
        name: Name of its files, without suffix.
        caption: Caption.
        figure: The figure.
    """

    name: str
    caption: str
    figure: "Figure"


def draw_study(study: Study) -> list[NamedFigure]:
    """Draw scores by task, against time and, if there are several sizes, against the number of training rows.

    Args:
        study: The study.

    Returns:
        The figures. For learning curves, see `draw_learning_curves`.
    """
    size = study.sizes[-1]
    with figure_style():
        figures = [
            NamedFigure(
                "scores",
                f"Scores on {study.scored_rows} with {size:,} training rows: mean and standard deviation over "
                f"{study.repeats}. The dashed line is {study.scenarios[0].name}.",
                _draw_scores(study, size),
            )
        ]
        if any(summary.overall for _, summary in study.summaries(size)):
            figures.append(
                NamedFigure(
                    "time",
                    f"Mean score of the tasks against training time, with {size:,} training rows. Filled points are "
                    "the Pareto front: no other scenario is both faster and better.",
                    _draw_front(study, size),
                )
            )
        if len(study.sizes) > 1:
            figures.append(
                NamedFigure(
                    "sizes",
                    f"Scores on {study.scored_rows} by number of training rows, means over {study.repeats}.",
                    _draw_sizes(study),
                )
            )
    return figures


def draw_learning_curves(study: Study) -> Iterator[NamedFigure]:
    """Draw the learning curves of one run per scenario: the run with the most training rows and the first seed.

    Args:
        study: The study.

    Yields:
        The figures. A scenario in which nothing trains has none.
    """
    for scenario in study.scenarios:
        runs = sorted(scenario.runs, key=lambda run: (-run.size, run.seed))
        if not runs or not runs[0].epochs:
            continue
        values = json.loads((study.folder / runs[0].history).read_text(encoding="utf-8"))
        names = [task["name"] for task in values["tasks"]]
        tasks = [task for task in study.tasks if task.name in names]
        yield NamedFigure(
            f"curves-{scenario.name.replace(':', '-')}",
            f"{scenario.name}: {scenario.about} ({runs[0].size:,} training rows, seed {runs[0].seed}).",
            draw_curves(values["history"], values["stages"], tasks),
        )


def _draw_scores(study: Study, size: int) -> "Figure":
    """Draw a panel per task, with a row per scenario."""
    from matplotlib.figure import Figure

    summaries = study.summaries(size)
    names = [scenario.name for scenario, _ in summaries]
    figure = Figure(figsize=(WIDTH, FRAME_HEIGHT + ROW_HEIGHT * len(names)), layout="constrained")
    panels = figure.subplots(1, len(study.tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, study.tasks, strict=True):
        for row, (_, summary) in enumerate(summaries):
            score = summary.scores.get(task.name)
            if score is not None:
                axes.errorbar(
                    score.mean, row, xerr=score.sd, fmt="o", color=FRONT_COLOR, ecolor="black", capsize=3, markersize=5
                )
        first = summaries[0][1].scores.get(task.name)
        if first is not None:
            axes.axvline(first.mean, color="0.4", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.grid(axis="both", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(_readable(study.main_metrics[task.name]), loc="left")
    return figure


def _draw_front(study: Study, size: int) -> "Figure":
    """Draw a numbered point per scenario, and the Pareto front as steps."""
    from matplotlib.figure import Figure

    scored = [
        (scenario, summary, summary.overall)
        for scenario, summary in study.summaries(size)
        if summary.overall is not None
    ]
    points = sorted(scored, key=lambda point: point[1].total_seconds)
    front = study.front(size)
    figure = Figure(figsize=(WIDTH, max(PANEL_HEIGHT, 0.23 * len(points) + 0.8)), layout="constrained")
    axes = figure.subplots()
    for number, (scenario, summary, score) in enumerate(points, 1):
        is_front = scenario.name in front
        axes.errorbar(
            summary.total_seconds,
            score.mean,
            yerr=score.sd,
            fmt="o" if is_front else "s",
            color=FRONT_COLOR if is_front else OTHER_COLOR,
            markerfacecolor=FRONT_COLOR if is_front else "white",
            capsize=3,
            markersize=7,
            label=f"{number} {scenario.name}",
            zorder=3 if is_front else 2,
        )
        axes.annotate(
            str(number),
            (summary.total_seconds, score.mean),
            xytext=(5, 5 if number % 2 else -12),
            textcoords="offset points",
            zorder=4,
        )
    steps = [(item.total_seconds, score.mean) for scenario, item, score in points if scenario.name in front]
    axes.step(*zip(*steps, strict=True), where="post", color=FRONT_COLOR, linewidth=1.2, zorder=1)
    _set_scale(axes, [item.total_seconds for _, item, _ in points])
    axes.set_xlabel("training time in seconds, including the model that it starts from")
    axes.set_ylabel(points[0][2].metric)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _draw_sizes(study: Study) -> "Figure":
    """Draw a panel per task, with a line per scenario."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, SIZES_HEIGHT * len(study.tasks)), layout="constrained")
    panels = figure.subplots(len(study.tasks), 1, sharex=True, squeeze=False)[:, 0]
    for axes, task in zip(panels, study.tasks, strict=True):
        for number, scenario in enumerate(study.scenarios):
            scores: list[tuple[int, Score]] = [
                (item.size, item.scores[task.name]) for item in scenario.summary if task.name in item.scores
            ]
            if scores:
                axes.errorbar(
                    [size for size, _ in scores],
                    [score.mean for _, score in scores],
                    yerr=None if scores[0][1].sd is None else [score.sd or 0.0 for _, score in scores],
                    label=scenario.name,
                    linewidth=1.4,
                    markersize=4.5,
                    elinewidth=0.8,
                    capsize=2,
                    **line_style(number),
                )
        _set_scale(axes, study.sizes)
        axes.set_xticks(study.sizes, [f"{size:,}" for size in study.sizes])
        axes.minorticks_off()
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_title(_readable(study.main_metrics[task.name]), loc="left")
    panels[-1].set_xlabel("training rows")
    # A scenario with a single task has a line in one panel only, so the legend collects the lines of all panels.
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    names = [scenario.name for scenario in study.scenarios if scenario.name in handles]
    panels[0].legend([handles[name] for name in names], names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _set_scale(axes: "Axes", values: Sequence[float]) -> None:
    if all(value > 0 for value in values) and needs_log_scale(values, LINEAR_RANGE):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")


def _readable(metric: str) -> str:
    return metric.replace("_", " ")
