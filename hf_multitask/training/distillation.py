"""Distillation from a teacher whose scores are columns of the training rows (Hinton, Vinyals and Dean 2015)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import torch

from ..freezing.distillation import TEMPERATURE, distances
from ..models.collator import TEACHER_COLUMN
from ..models.field_types import check_fields
from ..models.heads_crf import CRF, log_marginals, word_counts
from ..models.messages import unknown_name_message
from ..models.tasks import TaskConfig
from ..models.type_aliases import Batch

# Suffix of the number of items that a teacher has scored.
TEACHER = "_teacher"


@dataclass
class Distillation:
    """How a student is trained on the scores of its teacher.

    The distance to the teacher is added to the loss of the labels. It is the Kullback-Leibler divergence of the
    probabilities at a temperature, times its square (section 2.1 of the paper). For a multi-label task it is the
    divergence of each label's probability, and for a regression the squared error, both without temperature.

    Args:
        temperature: Divisor of the logits of both; above 1, also small probabilities of the teacher count.
        weight: Factor of the distance in the loss, in addition to the task's ``loss_weight``.
        tasks: Names of the tasks to distill, or their weights by name in place of ``weight``. Defaults to all tasks of
            the teacher.

    Raises:
        ValueError: If a value is not allowed.
    """

    temperature: int | float = TEMPERATURE
    weight: int | float = 1.0
    tasks: list[str] | dict[str, int | float] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, found {self.temperature}.")
        by_task = self.tasks if isinstance(self.tasks, dict) else {}
        for name, value in {
            "weight": self.weight,
            **{f"tasks.{task}": weight for task, weight in by_task.items()},
        }.items():
            if not value >= 0:
                raise ValueError(f"{name} must be a number from 0, found {value}.")
        if self.tasks is not None and not self.tasks:
            raise ValueError("tasks is empty; leave it out to distill all tasks of the teacher.")

    def weights(self, tasks: Sequence[TaskConfig]) -> dict[str, float]:
        """Return the factor of the distance in the loss of each task to distill.

        Args:
            tasks: Tasks of the student.

        Raises:
            ValueError: If a task is unknown. The message names the closest one.
        """
        names = [task.name for task in tasks]
        for name in self.tasks or []:
            if name not in names:
                raise ValueError(f"tasks: {unknown_name_message('task', name, names)}")
        by_task = self.tasks if isinstance(self.tasks, dict) else {}
        return {
            task.name: task.loss_weight * by_task.get(task.name, self.weight)
            for task in tasks
            if self.tasks is None or task.name in self.tasks
        }


class Distiller:
    """Computes the distance of a student to its teacher.

    Args:
        settings: Temperature and weights.
        tasks: Tasks of the student.
        taught: Names of the tasks that the training rows have scores for.

    Raises:
        ValueError: If a task to distill is unknown, or the rows have no scores for it.
    """

    def __init__(self, settings: Distillation, tasks: Sequence[TaskConfig], taught: Sequence[str]) -> None:
        self.temperature = settings.temperature
        weights = settings.weights(tasks)
        if settings.tasks is not None:
            for name in weights:
                if name not in taught:
                    raise ValueError(f"tasks: the teacher has {', '.join(taught)}, but not {name!r}.")
        self.tasks = [task for task in tasks if task.name in weights and task.name in taught]
        self.weights = {task.name: weights[task.name] for task in self.tasks}

    def count(self, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
        """Count the rows, or words, that the teacher has scored.

        Args:
            batches: Batches of an optimizer step.

        Returns:
            Numbers by ``<task>_teacher``.
        """
        return {
            f"{task.name}{TEACHER}": torch.stack([_is_scored(task, batch).sum() for batch in batches]).sum()
            for task in self.tasks
        }

    def losses(
        self,
        inputs: Batch,
        logits: Mapping[str, torch.Tensor],
        counts: Mapping[str, torch.Tensor],
        crfs: Mapping[str, CRF],
    ) -> dict[str, torch.Tensor]:
        """Compute the distances of a batch, without their weights.

        Args:
            inputs: The batch, with the teacher's scores.
            logits: Logits of the student by task.
            counts: Number of scored items by ``<task>_teacher`` to divide the sums by.
            crfs: CRFs of the student by task; their marginals are compared with the teacher.

        Returns:
            Distances by task.
        """
        return {
            task.name: self._sum(task, inputs, logits[task.name], crfs.get(task.name))
            / counts[f"{task.name}{TEACHER}"].clamp(min=1)
            for task in self.tasks
        }

    def _sum(self, task: TaskConfig, inputs: Batch, logits: torch.Tensor, crf: CRF | None) -> torch.Tensor:
        if crf is not None:
            logits = _marginals(logits, inputs["tag_positions"], crf)
        scores = inputs[TEACHER_COLUMN][task.name].nan_to_num()
        found = distances(task, logits, scores, inputs, self.temperature)
        return found.masked_fill(~_is_scored(task, inputs), 0.0).sum()


def build_distiller(settings: Distillation | None, tasks: Sequence[TaskConfig], dataset: object) -> Distiller | None:
    """Build the distiller of training rows.

    Args:
        settings: Temperature and weights; the defaults if None.
        tasks: Tasks of the student.
        dataset: Training rows.

    Returns:
        The distiller; None if the rows have no scores of a teacher.

    Raises:
        ValueError: If settings are given but the rows have no scores, or not for a task of the settings.
    """
    if isinstance(dataset, datasets.Dataset) and TEACHER_COLUMN in dataset.column_names:
        return Distiller(settings or Distillation(), tasks, list(dataset.features[TEACHER_COLUMN]))
    if settings is not None:
        raise ValueError(
            f"distillation needs the column {TEACHER_COLUMN!r} in train_dataset, which add_teacher_targets adds."
        )
    return None


def without_targets(batch: Batch) -> Batch:
    """Return a batch of one or more rows as if no teacher had scored them."""
    if TEACHER_COLUMN not in batch:
        return batch
    scores = {name: torch.full_like(value, torch.nan) for name, value in batch[TEACHER_COLUMN].items()}
    return {**batch, TEACHER_COLUMN: scores}


def _is_scored(task: TaskConfig, batch: Batch) -> torch.Tensor:
    """Return the mask of the rows (batch,), or words (batch, num_words), that count for the distance."""
    scored = ~batch[TEACHER_COLUMN][task.name].isnan().any(-1)
    return scored & (batch["tag_positions"] >= 0) if task.is_token_task else scored


# A loop over the words of a batch: compiled, it would need one graph per number of words.
@torch.compiler.disable
def _marginals(logits: torch.Tensor, tag_positions: torch.Tensor, crf: CRF) -> torch.Tensor:
    """Return the log marginal probabilities of a CRF's labels; 0 as the emissions of words without a subword."""
    present = tag_positions >= 0
    emissions = logits.float().log_softmax(-1).masked_fill(~present.unsqueeze(-1), 0.0)
    return log_marginals(emissions, crf.scores(), word_counts(present))
