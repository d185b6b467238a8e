"""Figure of a probe: depth against score, by task."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..models.tasks import REGRESSION
from ..reports.figure_style import check_figure_path, figure_style, line_style
from ..runtime.atomic_files import whole_file
from .layer_probe import LayerProbe, TaskProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 7.0, 3.6  # inches


def draw_probe(probe: LayerProbe) -> "Figure":
    """Draw the score of each task by depth; errors of regressions have a panel of their own.

    Args:
        probe: The probe.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    check_figure_path("probe.svg")
    from matplotlib.figure import Figure

    panels = [
        (title, found)
        for title, found in (
            ("score of a linear head on held-out rows", [t for t in probe.tasks if t.kind != REGRESSION]),
            ("mean squared error on held-out rows", [t for t in probe.tasks if t.kind == REGRESSION]),
        )
        if found
    ]
    with figure_style():
        figure = Figure(figsize=(WIDTH, HEIGHT * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (title, tasks) in zip(grid, panels, strict=True):
            for i, task in enumerate(tasks):
                axes.plot(range(len(task.scores)), task.scores, label=_label(task), **line_style(i))
            axes.set_title(title, loc="left")
            axes.set_xlabel("depth")
            axes.set_xticks(range(len(probe.depths)), map(str, range(len(probe.depths))))
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def save_probe_figure(probe: LayerProbe, path: str | Path) -> None:
    """Draw the score of each task by depth; see `draw_probe`.

    Args:
        probe: The probe.
        path: PNG or SVG file to write.

    Raises:
        ValueError: If the file has another suffix.
        ImportError: If matplotlib is not installed.
    """
    check_figure_path(path)
    figure = draw_probe(probe)
    with figure_style(), whole_file(Path(path)) as unfinished:
        figure.savefig(unfinished, format=Path(path).suffix.lower().removeprefix("."))


def _label(task: TaskProbe) -> str:
    return f"{task.name} ({task.metric.replace('_', ' ')})"
