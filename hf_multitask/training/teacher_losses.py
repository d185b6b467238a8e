"""Distances of a `MultiTaskTrainer` to its teachers: heads that a stage protects, and another model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..models import MultiTaskOutput
from ..models.type_aliases import Batch
from .distillation import TEACHER
from .task_log import DISTILL

if TYPE_CHECKING:
    from .trainer import MultiTaskTrainer


def teacher_losses(
    trainer: "MultiTaskTrainer", inputs: Batch, outputs: MultiTaskOutput, num_items: Mapping[str, torch.Tensor] | None
) -> dict[str, tuple[float, torch.Tensor]]:
    """Return the weight and the distance of each loss to a teacher, by its name in the log.

    Args:
        trainer: The trainer.
        inputs: The batch.
        outputs: What the model has returned for it.
        num_items: Number of items of the whole accumulated batch, see `MultiTaskTrainer.get_batch_samples`.
    """
    found: dict[str, tuple[float, torch.Tensor]] = {}
    if num_items is None or outputs.logits is None:
        return found
    run, distiller = trainer.freeze_callback.run, trainer.distiller
    if run is not None and run.teacher is not None:
        counts = {task.name: num_items[f"{task.name}{DISTILL}"] for task in trainer.protected_tasks}
        for name, distance in run.teacher.losses(inputs, outputs.logits, counts).items():
            found[f"{name}{DISTILL}_loss"] = run.teacher.weights[name], distance
    if distiller is not None:
        for name, distance in distiller.losses(inputs, outputs.logits, num_items, trainer.model.crfs).items():
            found[f"{name}{TEACHER}_loss"] = distiller.weights[name], distance
    return found
