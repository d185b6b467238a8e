"""What the tasks of a training do to each other: their gradients compared, and their losses balanced."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from transformers import TrainerCallback

from ..models import MultiTaskModel, TaskConfig
from ..models.layer_groups import LayerGroups
from ..models.type_aliases import Batch, Row
from .arguments import MultiTaskTrainingArguments
from .balancing_methods import NONE, EqualNorm, read_balancing
from .conflict import ConflictCallback, ConflictHooks, check_conflict
from .ema import replace_callback
from .gradient_aggregation import AggregationHooks, GradientAggregation, check_aggregation
from .gradient_methods import GradientMethod
from .loss_balancing import BalancingHooks, LossBalancing, check_resumed
from .shared_rows import SharedRows
from .task_gradients import GradientHooks, TaskGradients, check_gradients


@dataclass(frozen=True)
class SharingParts:
    """Parts of a trainer that `Sharing` works with.

    Args:
        model: The model, not wrapped.
        groups: Its layer groups.
        accelerator: The accelerator.
        collator: The collator.
        train_dataset: The training rows.
    """

    model: MultiTaskModel
    groups: LayerGroups
    accelerator: Accelerator
    collator: Callable[[list[Row]], Batch]
    train_dataset: object


@dataclass(frozen=True)
class SharingHooks:
    """What `Sharing` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        parts: Return the present parts of the trainer.
        step: Return the optimizer steps so far.
        prepare: Move a batch to the device.
        autocast: Return the context in which losses are computed.
        log: Log values as the Trainer does.
        has_teacher: Return whether rows without labels have a loss, the distance to a teacher.
    """

    parts: Callable[[], SharingParts]
    step: Callable[[], int]
    prepare: Callable[[Batch], Batch]
    autocast: Callable[[], AbstractContextManager[object]]
    log: Callable[[dict[str, float]], None]
    has_teacher: Callable[[], bool]


class Sharing:
    """Builds and holds what ``conflict_steps`` and ``loss_balancing`` ask for.

    Args:
        args: Arguments of the trainer.
        callbacks: Callbacks of the trainer, changed in place.
        hooks: Callables of the trainer.
        has_own_loss: Whether the trainer was given a function for its loss.

    Raises:
        ValueError: If the trainer's loss is not that of the tasks.
    """

    def __init__(
        self,
        args: MultiTaskTrainingArguments,
        callbacks: list[TrainerCallback],
        hooks: SharingHooks,
        has_own_loss: bool,
    ) -> None:
        self.args, self.callbacks, self.hooks, self.has_own_loss = args, callbacks, hooks, has_own_loss
        self.conflict: ConflictCallback | None = None
        self.balancing: LossBalancing | None = None
        self.aggregation: GradientAggregation | None = None
        self._rows: SharedRows | None = None
        self.gradients = TaskGradients(
            GradientHooks(
                model=lambda: hooks.parts().model,
                groups=lambda: hooks.parts().groups,
                rows=self._shared_rows,
                prepare=hooks.prepare,
                autocast=hooks.autocast,
                accelerator=lambda: hooks.parts().accelerator,
            )
        )

    @property
    def tasks(self) -> Sequence[TaskConfig]:
        """Tasks of the model."""
        return self.hooks.parts().model.config.tasks

    def follow(self) -> None:
        """Follow the training of another model, or with other arguments, from now on.

        Raises:
            ValueError: If the arguments ask for what cannot be done in this training.
        """
        method = read_balancing(self.args.loss_balancing)
        for argument, is_set in (("conflict_steps", self.args.conflict_steps), ("loss_balancing", method)):
            if is_set and self.has_own_loss:
                raise ValueError(f"{argument} is about the losses of the tasks; leave out compute_loss_func.")
        kind = self.hooks.parts().accelerator.distributed_type
        checkpointing = self.args.activation_checkpointing_kwargs
        use_reentrant = isinstance(checkpointing, dict) and bool(checkpointing.get("use_reentrant"))
        conflict, balancing, aggregation = None, None, None
        if isinstance(method, GradientMethod):
            aggregation = self._aggregation(method, use_reentrant)
        elif method is not None:
            if isinstance(method, EqualNorm):
                check_gradients("loss_balancing: equal_norm", kind, use_reentrant)
            counts_are_global = self.args.average_tokens_across_devices and self.args.world_size > 1
            hooks = BalancingHooks(
                accelerator=lambda: self.hooks.parts().accelerator,
                tasks=lambda: self.tasks,
                step=self.hooks.step,
                gradients=self.gradients,
            )
            balancing = LossBalancing(method, hooks, self.args.seed, counts_are_global)
        if self.args.conflict_steps is not None:
            check_conflict(self.tasks)
            check_gradients("conflict_steps", kind, use_reentrant)
            conflict_hooks = ConflictHooks(tasks=lambda: self.tasks, weights=self._weights, log=self.hooks.log)
            conflict = ConflictCallback(self.args.conflict_steps, self.gradients, conflict_hooks)
        replace_callback(self.callbacks, self.balancing, balancing)
        replace_callback(self.callbacks, self.conflict, conflict)
        self.balancing, self.conflict, self.aggregation, self._rows = balancing, conflict, aggregation, None

    def begin_training(self) -> None:
        """Begin a training with equal weights.

        Raises:
            ValueError: If the rows that gradients are compared on cannot be drawn.
        """
        self._rows = None
        if self.balancing is not None:
            self.balancing.begin_training()
        if self.aggregation is not None:
            self.aggregation.begin_training()
        if self.conflict is not None or (self.balancing is not None and isinstance(self.balancing.method, EqualNorm)):
            self._shared_rows()

    def weigh(
        self,
        loss: torch.Tensor,
        losses: Mapping[str, torch.Tensor] | None,
        num_items: Mapping[str, torch.Tensor] | None,
        scale: int,
    ) -> torch.Tensor:
        """Return the loss of a batch with balanced weights; the same loss without ``loss_balancing``.

        Args:
            loss: Loss with fixed weights.
            losses: Loss of each task; None without labels.
            num_items: Items of the step by task.
            scale: Factor that makes the mean over processes a sum.
        """
        if self.balancing is None or losses is None:
            return loss
        return self.balancing.weigh(losses, num_items) * scale

    def batch(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the context of a training batch, which takes the gradients of the tasks if they are aggregated.

        Args:
            model: The model with its wrappers.
        """
        return nullcontext() if self.aggregation is None else self.aggregation.batch(model)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Return the parts of a batch that pass the model one after another; see `GradientAggregation.parts`."""
        return iter((batch,)) if self.aggregation is None else self.aggregation.parts(batch)

    def keep(self, loss: torch.Tensor, losses: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the loss for the trainer's backward pass; see `GradientAggregation.keep`.

        Args:
            loss: Sum of the losses.
            losses: Loss of each task with its weight.
        """
        return loss if self.aggregation is None else self.aggregation.keep(loss, losses)

    def entries(self) -> dict[str, float]:
        """Return what a log of the loss contains in addition: the balanced weights."""
        return {} if self.balancing is None else self.balancing.entries()

    def save(self, checkpoint: str) -> None:
        """Write the method and the state of the weights to a checkpoint."""
        held = self.balancing or self.aggregation
        if held is not None and self.args.should_save:
            held.save(checkpoint)

    def load(self, checkpoint: str) -> None:
        """Continue with the weights of a checkpoint.

        Raises:
            ValueError: If its run balanced its losses in another way.
        """
        held = self.balancing or self.aggregation
        if held is None:
            check_resumed(checkpoint, NONE)
        else:
            held.load(checkpoint)

    def _weights(self) -> dict[str, float]:
        balanced = {} if self.balancing is None else self.balancing.weights()
        return {task.name: task.loss_weight * balanced.get(task.name, 1.0) for task in self.tasks}

    def _aggregation(self, method: GradientMethod, use_reentrant: bool) -> GradientAggregation:
        accelerator = self.hooks.parts().accelerator
        kind, precision = accelerator.distributed_type, accelerator.mixed_precision
        check_aggregation(kind, precision, use_reentrant, self.args.torch_compile)
        hooks = AggregationHooks(
            model=lambda: self.hooks.parts().model,
            groups=lambda: self.hooks.parts().groups,
            accelerator=lambda: self.hooks.parts().accelerator,
            step=self.hooks.step,
            has_teacher=self.hooks.has_teacher,
        )
        return GradientAggregation(method, len(self.tasks), self.args.seed, hooks)

    def _shared_rows(self) -> SharedRows:
        if self._rows is None:
            parts, args = self.hooks.parts(), self.args
            self._rows = SharedRows(
                parts.train_dataset,
                self.tasks,
                parts.collator,
                args.train_batch_size,
                args.seed,
                args.process_index,
                args.world_size,
            )
        return self._rows
