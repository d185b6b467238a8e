"""Results of a run in its trackers: metrics by class, and the figures of the report."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..models.tasks import REGRESSION
from ..runtime.extras import missing_packages
from ..training.tracking import TrackingCallback
from .figure_style import to_png
from .page import Table, markdown_table
from .training_curves import draw_curves
from .training_report import TrainingRecord, class_table, draw_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_results(tracking: TrackingCallback, record: TrainingRecord, step: int) -> None:
    """Log the metrics by class and the figures of a run's report; on the main process only.

    Args:
        tracking: The trackers of the run.
        record: Record of the run.
        step: Last optimizer step of the run.
    """
    if not tracking.trackers:
        return
    for tag, table in _tables(record):
        tracking.log_table(tag, table.header, table.rows, markdown_table(table), step)
    for tag, image in _images(record):
        tracking.log_image(tag, image, step)
    tracking.finish()


def _tables(record: TrainingRecord) -> Iterator[tuple[str, Table]]:
    for split, result in record.results.items():
        for task in record.tasks:
            if task.problem_type != REGRESSION and result.has_labels(task):
                yield f"{split}_by_class/{task.name}", class_table(task, split, result)


def _images(record: TrainingRecord) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the figures of a run as pixels (height, width, 3); none if packages that draw them are missing."""
    if missing_packages("reports"):
        return
    if record.was_trained:
        yield "report/curves", _pixels(draw_curves(record.history, record.stages, record.tasks))
    for split, result in record.results.items():
        for task in record.tasks:
            figure = draw_predictions(task, result) if result.has_labels(task) else None
            if figure is not None:
                yield f"report/{split}_{task.name}", _pixels(figure)


def _pixels(figure: "Figure") -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))
