"""Parts of a run's report that the app shows, while the run trains too: conflict between tasks, and frozen layers."""

from collections.abc import Sequence

from ..reports.convergence import convergence_parts
from ..reports.page import Paragraph, Part, SvgFigure, Table
from ..reports.training_report import conflict_parts
from ..runtime.training_history import LogEntry
from .data_figure import DRAWING
from .markup import paragraph, picture, table


def show_conflict(tasks: Sequence[str], history: Sequence[LogEntry]) -> str:
    """Return a sentence and a picture for each pair of tasks, or nothing without ``conflict_steps``.

    Args:
        tasks: Names of the tasks.
        history: ``log_history`` of the trainer so far.
    """
    with DRAWING:
        return _in_html(conflict_parts(tasks, history))


def show_frozen_layers(history: Sequence[LogEntry]) -> str:
    """Return when and why layers were frozen, and a picture of their distances, or nothing without ``converged``.

    Args:
        history: ``log_history`` of the trainer so far.
    """
    with DRAWING:
        return _in_html(convergence_parts(history))


def _in_html(parts: Sequence[Part]) -> str:
    shown = []
    for part in parts:
        if isinstance(part, Paragraph):
            shown.append(paragraph(part.text))
        elif isinstance(part, SvgFigure):
            shown.append(picture(part.svg.encode(), part.caption, "svg+xml", part.caption))
        elif isinstance(part, Table):
            shown.append(table(part.header, part.rows, part.caption))
    return "".join(shown)
