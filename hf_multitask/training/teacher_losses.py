"""Distances of a model in training to its teachers: heads that a stage protects, and another model."""

from collections.abc import Mapping

import torch

from ..freezing.distillation import Teacher
from ..models import MultiTaskOutput
from ..models.heads_crf import CRF
from ..models.type_aliases import Batch
from .distillation import TEACHER, Distiller
from .task_log import DISTILL


def teacher_losses(
    protection: Teacher | None,
    distiller: Distiller | None,
    crfs: Mapping[str, CRF],
    inputs: Batch,
    outputs: MultiTaskOutput,
    num_items: Mapping[str, torch.Tensor] | None,
) -> dict[str, tuple[str, float, torch.Tensor]]:
    """Return the task, the weight and the distance of each loss to a teacher, by its name in the log.

    Args:
        protection: The model at the start of a stage, if the stage protects heads.
        distiller: Distiller of the training rows, if another model has scored them.
        crfs: CRFs of the model by task.
        inputs: The batch.
        outputs: What the model has returned for it.
        num_items: Number of items of the whole accumulated batch, see `MultiTaskTrainer.get_batch_samples`.
    """
    found: dict[str, tuple[str, float, torch.Tensor]] = {}
    if num_items is None or outputs.logits is None:
        return found
    if protection is not None:
        counts = {task.name: num_items[f"{task.name}{DISTILL}"] for task in protection.tasks}
        for name, distance in protection.losses(inputs, outputs.logits, counts).items():
            found[f"{name}{DISTILL}_loss"] = name, protection.weights[name], distance
    if distiller is not None:
        for name, distance in distiller.losses(inputs, outputs.logits, num_items, crfs).items():
            found[f"{name}{TEACHER}_loss"] = name, distiller.weights[name], distance
    return found
