"""Result of a run on one split: metrics, predictions, labels and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels.unseen_labels import count_support, in_scope_labels
from ..data.row_texts import RowTexts
from ..models.tasks import TaskConfig


@dataclass(frozen=True)
class SplitResult:
    """Result of a run on one split.

    Args:
        metrics: Metrics by name, as in ``metrics.json``.
        output: ``PredictionOutput`` of `MultiTaskTrainer.predict`. It is not annotated as such, because its
            predictions and labels are mappings by task, not arrays.
        texts: Texts of the rows.
    """

    metrics: Mapping[str, float]
    output: Any
    texts: RowTexts

    def predictions(self, task: TaskConfig) -> np.ndarray:
        """Return the decoded predictions of a task (rows, …)."""
        return self.output.predictions[task.name]["ids"]

    def labels(self, task: TaskConfig) -> np.ndarray:
        """Return the labels of a task as the collator returns them (rows, …); rows out of scope have none."""
        return in_scope_labels(self.output.label_ids[task.name])

    def support(self, tasks: Sequence[TaskConfig]) -> dict[str, dict[str, int]]:
        """Return, by task, the number of rows, words and entities that its scores are computed from."""
        return {task.name: count_support(task, self.labels(task)) for task in tasks}

    def losses(self, task: TaskConfig) -> np.ndarray:
        """Return the mean loss of each row (rows); 0 for rows without a label."""
        values = self.output.predictions[task.name]
        return values["loss"].astype(np.float64) / np.maximum(values["count"], 1)

    def scores(self, task: TaskConfig) -> np.ndarray:
        """Return the calibrated probabilities of the predictions of a task that is no regression.

        Returns:
            The probability of the predicted label of each row (rows), of each word's tag (rows, words), or of each
            label of a multi-label task (rows, num_labels).
        """
        return self.output.predictions[task.name]["score"]

    def given_scores(self, task: TaskConfig) -> np.ndarray:
        """Return the calibrated probabilities of the gold labels of a task with one label per row or word.

        Returns:
            The probabilities (rows, …), without meaning where there is no label that the model knows.
        """
        values = self.output.predictions[task.name]
        return values["given"] if task.is_token_task else np.exp(-values["nll"].astype(np.float64))

    def is_labeled(self, task: TaskConfig) -> np.ndarray:
        """Return whether each row has a label of a task (rows)."""
        return self.output.predictions[task.name]["count"] > 0

    def has_labels(self, task: TaskConfig) -> bool:
        """Return whether any row has a label of a task."""
        return bool(self.is_labeled(task).any())
