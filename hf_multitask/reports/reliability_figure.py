"""Reliability diagram: how often the predictions of a task are right, by their scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..models.tasks import MULTI_LABEL, TaskConfig
from ..runtime.extras import check_packages
from ..training.calibration import NUM_BINS, Confidences, equal_mass_bins, expected_calibration_error, find_confidences
from .figure_style import figure_style, line_style
from .split_result import SplitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = 3.6  # inches


def draw_reliability(task: TaskConfig, results: Mapping[str, SplitResult]) -> "Figure | None":
    """Draw the share of right predictions against the mean score, in the bins of the expected calibration error.

    Args:
        task: The task.
        results: Results by split.

    Returns:
        The figure, with a line for each split. None if there are no scores, as for a regression.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    found = {split: _confidences(task, result) for split, result in results.items()}
    found = {split: confidences for split, confidences in found.items() if len(confidences.scores)}
    if not found:
        return None
    check_packages("reports", "a report")
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(SIZE, SIZE), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
        for i, (split, confidences) in enumerate(found.items()):
            bins = equal_mass_bins(confidences)
            label = f"{split}: ECE {expected_calibration_error(confidences):.4f}"
            axes.plot(bins.scores, bins.right, label=label, markersize=3, **line_style(i))
        axes.set_xlabel("mean score")
        axes.set_ylabel("share that is right")
        axes.legend(loc="upper left")
        return figure


def reliability_caption(task: TaskConfig) -> str:
    """Return what the diagram of a task shows."""
    if task.is_token_task:
        items = "predicted entities, which are right if type and boundaries are"
    else:
        items = "labels of all rows" if task.problem_type == MULTI_LABEL else "predicted labels"
    return (
        f"Reliability of the scores: {items}, in {NUM_BINS} bins of the same size from the lowest scores to the "
        "highest. ECE is the mean distance from the dashed line. The temperature, if there is one, was fitted on "
        "validation."
    )


def _confidences(task: TaskConfig, result: SplitResult) -> Confidences:
    return find_confidences(task, result.output.predictions[task.name], result.labels(task))
