"""What is fitted on validation after a training: temperatures and thresholds, from one prediction of the rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from ..models.heads_crf import CRF
from ..models.tasks import TaskConfig
from ..models.tasks_constraints import constrain_tags
from .entity_precision import MinScoreFit, fit_min_score, set_min_scores
from .scope import ScopeCollector, ThresholdFit, set_thresholds
from .temperature import LogitCollector, TemperatureFit, set_temperatures


class ScoreFits(NamedTuple):
    """Fits by task; a task for which the rows say nothing has none.

    Args:
        temperatures: Temperatures.
        thresholds: Thresholds of tasks that abstain.
        min_scores: Minimum scores of tasks with ``entity_precision``.
    """

    temperatures: dict[str, TemperatureFit]
    thresholds: dict[str, ThresholdFit]
    min_scores: dict[str, MinScoreFit]


class ScoreCollector:
    """Collects from the batches of an evaluation what temperatures and thresholds are fitted on.

    Args:
        tasks: Tasks of the model.
        crfs: CRFs by task, for the tasks that have one.
        fits_temperatures: Whether to fit temperatures.
        fits_thresholds: Whether to fit the thresholds of tasks that abstain, and minimum scores of entities.
    """

    def __init__(
        self, tasks: Sequence[TaskConfig], crfs: Mapping[str, CRF], fits_temperatures: bool, fits_thresholds: bool
    ) -> None:
        self.tasks = tasks
        self.fits_temperatures = fits_temperatures
        self.precise = [task for task in tasks if task.entity_precision is not None] if fits_thresholds else []
        self.logits = LogitCollector(tasks if fits_temperatures else self.precise, crfs)
        self.scope = ScopeCollector(tasks if fits_thresholds else [])

    def add(
        self,
        logits: Mapping[str, torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        tag_positions: torch.Tensor | None,
    ) -> None:
        """Add a batch; see `LogitCollector.add`."""
        self.logits.add(constrain_tags(self.tasks, logits), labels, tag_positions)
        self.scope.add(logits, labels, tag_positions)

    def fit(self) -> ScoreFits:
        """Fit on the batches of all processes, and set and log what is found: temperatures first."""
        temperatures = set_temperatures(self.tasks, self.logits.fit()) if self.fits_temperatures else {}
        thresholds = set_thresholds(self.tasks, self.scope.fit())
        min_scores = {task.name: fit_min_score(task, self.logits.entities(task)) for task in self.precise}
        return ScoreFits(temperatures, thresholds, set_min_scores(self.tasks, min_scores))


def has_thresholds(tasks: Sequence[TaskConfig]) -> bool:
    """Return whether a task has a threshold that is fitted on validation."""
    return any(task.abstain is not None or task.entity_precision is not None for task in tasks)
