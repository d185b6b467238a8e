"""One gradient of the shared weights of those of the tasks, by a method of TorchJD, in each optimizer step."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, PrecisionType
from torch import nn

from ..models import MultiTaskModel
from ..models.layer_groups import LayerGroups
from ..models.type_aliases import Batch
from ..runtime.atomic_files import write_text
from .batch_split import BatchPart, split_by_tasks
from .gradient_methods import PLACE, GradientMethod
from .loss_balancing import STATE_NAME, check_resumed
from .task_gradients import check_gradients, same_random_state


@dataclass(frozen=True)
class AggregationHooks:
    """What a `GradientAggregation` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        model: Return the model, not wrapped.
        groups: Return its layer groups.
        accelerator: Return the accelerator.
        step: Return the optimizer steps so far.
        has_teacher: Return whether rows without labels have a loss, the distance to a teacher.
    """

    model: Callable[[], MultiTaskModel]
    groups: Callable[[], LayerGroups]
    accelerator: Callable[[], Accelerator]
    step: Callable[[], int]
    has_teacher: Callable[[], bool]


@dataclass
class _Step:
    """Gradients of an optimizer step so far.

    Args:
        shared: Weights of the encoder that train.
        own: All other weights that train, those of the heads.
        rows: Gradient of each task on the shared weights (num_tasks, num_weights).
        reached: Positions of the shared weights that the loss of any task depends on.
    """

    shared: Sequence[nn.Parameter]
    own: Sequence[nn.Parameter]
    rows: torch.Tensor
    reached: set[int] = field(default_factory=set)

    def add(self, task: int, of_shared: Sequence[torch.Tensor | None], of_own: Sequence[torch.Tensor | None]) -> None:
        """Add the gradients of a task on the shared weights, if there are any, and on all others."""
        start = 0
        for i, (weight, gradient) in enumerate(zip(self.shared, of_shared, strict=False)):
            if gradient is not None:
                self.rows[task, start : start + weight.numel()] += gradient.flatten()
                self.reached.add(i)
            start += weight.numel()
        for weight, gradient in zip(self.own, of_own, strict=True):
            if gradient is not None:
                weight.grad = gradient if weight.grad is None else weight.grad + gradient


class GradientAggregation:
    """Sets the gradient of the shared weights to what a method makes of the gradients of the tasks.

    Each task's loss has a backward pass of its own, in which its head gets its gradient as usual. Rows of tasks that
    have no row in common pass the model by themselves, so that no backward pass goes through rows without a loss. The
    gradients on the shared weights are summed over the batches of an optimizer step and averaged over the processes,
    and then aggregated: once per step, of whole batches. A step with the labels of one task only is a plain step.

    Args:
        method: The method.
        num_tasks: Number of tasks of the model.
        seed: Seed of methods that draw random numbers.
        hooks: Callables of the trainer.

    Raises:
        ValueError: If the method cannot aggregate the gradients of so many tasks.
    """

    def __init__(self, method: GradientMethod, num_tasks: int, seed: int, hooks: AggregationHooks) -> None:
        if num_tasks < 2:
            raise ValueError(f"{PLACE}: {method.name} aggregates the gradients of tasks: expected two or more tasks.")
        self.method, self.num_tasks, self.seed, self.hooks = method, num_tasks, seed, hooks
        with same_random_state(torch.device("cpu")):
            self._aggregate = method.build(num_tasks)
        self.begin_training()

    def begin_training(self) -> None:
        """Begin a training."""
        self._step: _Step | None = None
        self._losses: Sequence[torch.Tensor] = ()
        self._rows = torch.empty(0)

    @contextmanager
    def batch(self, model: nn.Module) -> Iterator[None]:
        """Take the gradients of a batch in this context by `parts`, if shared weights train.

        Args:
            model: The model with its wrappers. DDP must not wait for gradients, which are averaged at the end.
        """
        if self._step is None:
            self._step = self._begin_step()
        if self._step is None:
            yield
            return
        with self.hooks.accelerator().no_sync(model):
            yield
        if self.hooks.accelerator().sync_gradients:
            self._end_step(self._step)
            self._step = None

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Return the parts of a batch that pass the model one after another; after each, take its gradients."""
        if self._step is None:
            yield batch
            return
        tasks = self.hooks.model().config.tasks
        everything = frozenset(range(len(tasks)))
        whole = [BatchPart(batch, everything)]
        for part in whole if self.hooks.has_teacher() else split_by_tasks(batch, tasks):
            yield part.inputs
            self._add_gradients(self._step, part.tasks or everything)

    def keep(self, loss: torch.Tensor, losses: Sequence[torch.Tensor]) -> torch.Tensor:
        """Keep the losses of a part of a batch until its gradients are taken.

        Args:
            loss: Their sum.
            losses: Loss of each task with its weight.

        Returns:
            The sum, without the graph of the model: the trainer's backward pass does nothing.
        """
        if self._step is None:
            return loss
        self._losses = losses
        return loss.detach().requires_grad_()

    def save(self, checkpoint: str) -> None:
        """Write the name of the method to a checkpoint; on one process."""
        write_text(Path(checkpoint, STATE_NAME), json.dumps({"method": self.method.name}))

    def load(self, checkpoint: str) -> None:
        """Continue with a checkpoint.

        Raises:
            ValueError: If its run had another method.
        """
        check_resumed(checkpoint, self.method.name)

    def _begin_step(self) -> _Step | None:
        shared = [
            weight
            for group in self.hooks.groups().undivided()
            if group.is_shared
            for weight in group.parameters.values()
            if weight.requires_grad
        ]
        if not shared:
            return None
        numbers = {id(weight) for weight in shared}
        trained = [weight for weight in self.hooks.model().parameters() if weight.requires_grad]
        size = (self.num_tasks, sum(weight.numel() for weight in shared))
        # Memory of this size is slow to get, so the steps of a stage share it.
        if self._rows.shape != size:
            self._rows = torch.empty(size, device=self.hooks.accelerator().device)
        return _Step(shared, [weight for weight in trained if id(weight) not in numbers], self._rows.zero_())

    def _add_gradients(self, step: _Step, tasks: frozenset[int]) -> None:
        """Add the gradients of a part of a batch.

        Args:
            step: The optimizer step.
            tasks: Tasks with labels in the part. The losses of the others are 0, which their heads notice as usual.
        """
        losses, self._losses = self._losses, ()
        for task, loss in enumerate(losses):
            shared = step.shared if task in tasks else ()
            is_last = task == len(losses) - 1
            weights = [*shared, *step.own]
            if weights:
                gradients = torch.autograd.grad(loss, weights, retain_graph=not is_last, allow_unused=True)
                step.add(task, gradients[: len(shared)], gradients[len(shared) :])

    def _end_step(self, step: _Step) -> None:
        """Set the gradients of the shared weights, from those of all batches and processes."""
        accelerator = self.hooks.accelerator()
        rows = step.rows
        if accelerator.num_processes > 1:
            rows = accelerator.reduce(rows, reduction="mean")
            for weight in step.own:
                if weight.grad is not None:
                    weight.grad = accelerator.reduce(weight.grad, reduction="mean")
        vector, start = self._combine(rows), 0
        for i, weight in enumerate(step.shared):
            if i in step.reached:
                weight.grad = vector[start : start + weight.numel()].view_as(weight).to(weight.dtype)
            start += weight.numel()

    def _combine(self, rows: torch.Tensor) -> torch.Tensor:
        """Return one gradient: the same on all processes, which have the same rows and draw the same numbers."""
        norms = torch.linalg.vector_norm(rows, dim=1).tolist()
        present = [i for i, norm in enumerate(norms) if norm != 0]
        # A loss that is not finite is met where the training looks for it.
        if len(present) < 2 or not all(map(math.isfinite, norms)):
            return rows.sum(0)
        if len(present) < len(norms):
            rows = rows[present]
        with same_random_state(rows.device):
            torch.manual_seed(self.seed * 1_000_003 + self.hooks.step())
            return self._aggregate(rows)


def check_aggregation(
    distributed_type: DistributedType, mixed_precision: str, use_reentrant: bool, is_compiled: bool
) -> None:
    """Raise if the gradients of tasks cannot be aggregated in a training.

    Args:
        distributed_type: Distributed type of accelerate.
        mixed_precision: Precision in which losses are computed, by its name in accelerate.
        use_reentrant: Whether activation checkpointing is of the reentrant kind.
        is_compiled: Whether the model is compiled.

    Raises:
        ValueError: If so. The message says what to leave out.
    """
    argument = f"{PLACE}: torchjd"
    check_gradients(argument, distributed_type, use_reentrant)
    if mixed_precision == PrecisionType.FP16:
        raise ValueError(f"{argument} does not work with the gradient scaler of fp16; leave fp16 out, or take bf16.")
    if is_compiled:
        raise ValueError(
            f"{argument} takes several backward passes of one graph, which compiled models free after the first; "
            "leave torch_compile out."
        )
