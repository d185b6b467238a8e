"""Layers that a run has frozen because they had stopped learning: when and why, beside the measured distances."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..freezing.convergence import DISTANCES_KEY
from ..models.layer_groups import layer_ranges
from ..runtime.training_history import LogEntry
from .figure_style import figure_style, line_style, to_svg
from .page import Part, SvgFigure, Table
from .training_curves import LEGEND_COLUMNS, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 3.6  # inches


def convergence_parts(history: Sequence[LogEntry]) -> list[Part]:
    """Return the parts of a report about layers that have stopped learning; none if none were measured.

    Args:
        history: ``trainer.state.log_history``.
    """
    measured = [entry for entry in history if DISTANCES_KEY in entry]
    if not measured:
        return []
    changes = [entry for entry in history if entry.get("freeze_stage") is not None]
    caption = (
        "Distance of the weights of each layer from where the stage started. A line ends where the layer is frozen; "
        "a vertical line is a change of what trains."
    )
    return [_changes_table(changes), SvgFigure(to_svg(draw_distances(measured, changes)), caption)]


def draw_distances(measured: Sequence[LogEntry], changes: Sequence[LogEntry]) -> "Figure":
    """Draw the distances of the layers over the steps.

    Args:
        measured: Entries of the history with distances.
        changes: Entries of the history about changes of what trains.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    names = dict.fromkeys(name for entry in measured for name in entry[DISTANCES_KEY])
    with figure_style():
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        for i, name in enumerate(names):
            steps = [entry["step"] for entry in measured]
            # NaN where it was frozen, so that the line has a gap.
            values = [entry[DISTANCES_KEY].get(name, float("nan")) for entry in measured]
            axes.plot(steps, values, label=name, linewidth=1.6, markersize=3.5, markevery=0.12, **line_style(i))
        for change in changes:
            axes.axvline(change["step"], color="0.5", linewidth=0.8, zorder=0.5)
        axes.set_xlabel("step")
        axes.set_title("distance from the start of the stage", loc="left")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower left", ncols=LEGEND_COLUMNS, fontsize=8)
        return figure


def _changes_table(changes: Sequence[LogEntry]) -> Table:
    rows = [
        [
            f"{change['step']:,}",
            f"{change.get('epoch') or 0:.2f}",
            _groups(change, "frozen_groups"),
            _groups(change, "unfrozen_groups"),
            change["freeze_reason"],
        ]
        for change in changes
    ]
    return Table(["Step", "Epoch", "Frozen", "Trains again", "Reason"], rows, "What was frozen when, and why.")


def _groups(change: Mapping[str, Sequence[str]], key: str) -> str:
    return ", ".join(layer_ranges(change[key])) or "nothing"
