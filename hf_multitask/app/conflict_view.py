"""The conflict between the tasks of a run: the pictures of its report, while it trains too."""

from collections.abc import Sequence

from ..reports.page import Paragraph, SvgFigure
from ..reports.training_report import conflict_parts
from ..runtime.training_history import LogEntry
from .data_figure import DRAWING
from .markup import paragraph, picture


def show_conflict(tasks: Sequence[str], history: Sequence[LogEntry]) -> str:
    """Return a sentence and a picture for each pair of tasks, or nothing without ``conflict_steps``.

    Args:
        tasks: Names of the tasks.
        history: ``log_history`` of the trainer so far.
    """
    with DRAWING:
        parts = conflict_parts(tasks, history)
    shown = []
    for part in parts:
        if isinstance(part, Paragraph):
            shown.append(paragraph(part.text))
        elif isinstance(part, SvgFigure):
            shown.append(picture(part.svg.encode(), part.caption, "svg+xml", part.caption))
    return "".join(shown)
