"""Losses of an optimizer step: the items that they are divided by, distances to teachers, and the log by task."""

from collections.abc import Mapping, Sequence

import torch

from ..freezing.distillation import Teacher
from ..models import MultiTaskOutput, TaskConfig
from ..models.heads_crf import CRF
from ..models.type_aliases import Batch
from .arguments import MultiTaskTrainingArguments
from .distillation import Distiller
from .sharing import Sharing
from .task_log import TaskLog, count_labels
from .teacher_losses import teacher_losses


class StepLosses:
    """Counts the items of an optimizer step, and completes the losses of its batches.

    Args:
        args: Arguments of the trainer.
        task_log: Log by task.
        sharing: Weights of the losses, if they are balanced.
    """

    def __init__(self, args: MultiTaskTrainingArguments, task_log: TaskLog, sharing: Sharing) -> None:
        self.args = args
        self.task_log = task_log
        self.sharing = sharing

    def follow(self, tasks: Sequence[TaskConfig], crfs: Mapping[str, CRF], distiller: Distiller | None) -> None:
        """Follow the training of a model from now on.

        Args:
            tasks: Tasks of the model.
            crfs: Its CRFs by task.
            distiller: Distiller of the training rows, if another model has scored them.
        """
        self.tasks, self.crfs, self.distiller = tasks, crfs, distiller

    @property
    def counts_are_global(self) -> bool:
        """Whether items are counted on all processes together."""
        return self.args.average_tokens_across_devices and self.args.world_size > 1

    def count(
        self, batches: Sequence[Batch], protected: Sequence[TaskConfig], device: torch.device
    ) -> dict[str, torch.Tensor]:
        """Count the items of a step; on all processes.

        Args:
            batches: Batches of the step on this process.
            protected: Tasks that any stage protects.
            device: Device of the numbers.

        Returns:
            The number of items by task, and by the names of the distances to teachers.
        """
        items, rows = count_labels(self.tasks, protected, batches)
        if self.distiller is not None:
            items |= self.distiller.count(batches)
        self.task_log.add_rows(rows)
        totals = torch.stack(list(items.values())).to(device)
        if self.counts_are_global:
            totals = self.task_log.accelerator.reduce(totals, reduction="sum")
        return dict(zip(items, totals, strict=True))

    def complete(
        self,
        loss: torch.Tensor,
        inputs: Batch,
        outputs: MultiTaskOutput,
        num_items: Mapping[str, torch.Tensor] | None,
        protection: Teacher | None,
    ) -> torch.Tensor:
        """Balance the loss of a batch, add the distances to teachers, and log the losses by task.

        Args:
            loss: Loss of the labels.
            inputs: The batch.
            outputs: What the model has returned for it.
            num_items: What `count` has returned for the step.
            protection: The model at the start of the stage, if the stage protects heads.
        """
        if outputs.losses is None:
            return loss
        scale = self.args.world_size if self.counts_are_global else 1
        loss = self.sharing.weigh(loss, outputs.losses, num_items, scale)
        losses = {f"{task.name}_loss": outputs.losses[task.name].detach() for task in self.tasks}
        distances = teacher_losses(protection, self.distiller, self.crfs, inputs, outputs, num_items)
        by_task = {task.name: task.loss_weight * outputs.losses[task.name] * scale for task in self.tasks}
        for name, (task, weight, distance) in distances.items():
            loss = loss + weight * distance * scale
            by_task[task] = by_task[task] + weight * distance * scale
            losses[name] = distance.detach()
        self.task_log.add_losses({name: value * scale for name, value in losses.items()})
        return self.sharing.keep(loss, list(by_task.values()))
