"""Gradients of each task's loss on the shared weights, and how they compare. A training does not notice."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from ..models import MultiTaskModel
from ..models.layer_groups import LayerGroups
from ..models.losses import count_labeled
from ..models.type_aliases import Batch
from .shared_rows import SharedRows, TaskBatch

# All shared groups together, among the names of groups.
ALL = "all"


@dataclass(frozen=True)
class GradientHooks:
    """What `TaskGradients` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        model: Return the model, not wrapped.
        groups: Return its layer groups.
        rows: Return the rows to compare tasks on.
        prepare: Move a batch to the device.
        autocast: Return the context in which losses are computed.
        accelerator: Return the accelerator.
    """

    model: Callable[[], MultiTaskModel]
    groups: Callable[[], LayerGroups]
    rows: Callable[[], SharedRows]
    prepare: Callable[[Batch], Batch]
    autocast: Callable[[], AbstractContextManager[object]]
    accelerator: Callable[[], Accelerator]


@dataclass(frozen=True)
class GradientComparison:
    """How the gradients of tasks compare, by group of the shared weights and `ALL`.

    Args:
        norms: Norm of the gradient of each task's mean loss, by group and task.
        cosines: Cosine between the gradients of two tasks, by group and pair of tasks in the order of the model. A
            pair is left out where the gradient of one is 0 or not finite.
    """

    norms: Mapping[str, Mapping[str, float]]
    cosines: Mapping[str, Mapping[tuple[str, str], float]]


class TaskGradients:
    """Compares the gradients of tasks in a pass of its own.

    The pass uses the model without its wrappers and leaves gradients, modes and random states as they are, so that a
    training with it is bit for bit the same as without. The cost is at most one training step of as many rows: a
    forward pass for tasks with the same rows, and a backward pass for each task. Each gradient is kept until
    it has been compared.

    Args:
        hooks: Callables of the trainer.
    """

    def __init__(self, hooks: GradientHooks) -> None:
        self.hooks = hooks

    def compare(self, step: int) -> GradientComparison | None:
        """Compare the gradients at the present weights; on all processes.

        Args:
            step: Optimizer steps so far.

        Returns:
            The comparison; None if no shared weight trains, or no task has rows.
        """
        weights = {
            group.name: trained
            for group in self.hooks.groups().undivided()
            if group.is_shared
            and (trained := [weight for weight in group.parameters.values() if weight.requires_grad])
        }
        batches = self.hooks.rows().draw(step) if weights else []
        if not batches:
            return None
        gradients: dict[str, _TaskGradient] = {}
        with torch.enable_grad(), same_random_state(self.hooks.accelerator().device):
            for batch in batches:
                gradients |= self._gradients(batch, weights)
        names = [task.name for task in self.hooks.model().config.tasks if task.name in gradients]
        return _compare(names, list(weights), gradients)

    def _gradients(
        self, batch: TaskBatch, weights: Mapping[str, Sequence[nn.Parameter]]
    ) -> dict[str, "_TaskGradient"]:
        """Return the gradient of each task of a batch, of the rows of all processes."""
        accelerator = self.hooks.accelerator()
        inputs = self.hooks.prepare(batch.inputs)
        names = [task.name for task in batch.tasks]
        items = torch.stack([count_labeled(task, inputs["labels"][task.name]).sum() for task in batch.tasks])
        items = accelerator.reduce(items, reduction="sum").clamp(min=1)
        with self.hooks.autocast():
            divisors = {name: torch.ones_like(items[0]) for name in names}
            losses = self.hooks.model()(**inputs, num_items_in_batch=divisors, tasks=names, return_dict=True).losses
        # Gradients in float16 would be 0 without the scale, which no cosine and no share depends on.
        scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
        flat = [weight for group in weights.values() for weight in group]
        found: dict[str, _TaskGradient] = {}
        for i, name in enumerate(names):
            is_last = i == len(names) - 1
            parts = torch.autograd.grad(losses[name] * scale, flat, retain_graph=not is_last, allow_unused=True)
            by_group, start = [], 0
            for group in weights.values():
                of_group = parts[start : start + len(group)]
                # Gradients are copied only where processes have to add them.
                is_alone = accelerator.num_processes == 1
                by_group.append(
                    of_group if is_alone else [accelerator.reduce(_flat(group, of_group), reduction="sum")]
                )
                start += len(group)
            found[name] = _TaskGradient(by_group, items[i])
        return found


@dataclass(frozen=True)
class _TaskGradient:
    """Gradient of the sum of a task's losses.

    Args:
        groups: Parts by group; None for weights that the loss does not depend on.
        items: Number of items of the sum.
    """

    groups: Sequence[Sequence[torch.Tensor | None]]
    items: torch.Tensor


def check_gradients(argument: str, distributed_type: DistributedType, use_reentrant: bool) -> None:
    """Raise if the gradients of tasks cannot be compared in a training.

    Args:
        argument: Training argument that asks for it.
        distributed_type: Distributed type of accelerate.
        use_reentrant: Whether activation checkpointing is of the reentrant kind.

    Raises:
        ValueError: If so. The message says what to leave out.
    """
    if distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"{argument} needs whole weights and does not work under {distributed_type.value}; leave it out."
        )
    if use_reentrant:
        raise ValueError(
            f"{argument} takes gradients of single weights, which reentrant checkpointing cannot; leave "
            "use_reentrant=True out of activation_checkpointing_kwargs."
        )


@contextmanager
def same_random_state(device: torch.device) -> Iterator[None]:
    """Restore the random states of torch, NumPy and Python after this context.

    Args:
        device: Device of the training, whose generator is restored too.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    devices = [] if device.type == "cpu" else [torch.accelerator.current_device_index()]
    try:
        with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _flat(weights: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Return gradients as one vector, with 0 for weights that a loss does not depend on."""
    pairs = zip(weights, gradients, strict=True)
    return torch.cat(
        [(torch.zeros_like(weight) if part is None else part).detach().float().flatten() for weight, part in pairs]
    )


def _products(one: _TaskGradient, other: _TaskGradient) -> torch.Tensor:
    """Return the scalar products of two gradients of mean losses by group (num_groups,)."""
    products = []
    for parts, others in zip(one.groups, other.groups, strict=True):
        dots = [
            torch.dot(a.flatten().float(), b.flatten().float())
            for a, b in zip(parts, others, strict=True)
            if a is not None and b is not None
        ]
        products.append(torch.stack(dots).sum() if dots else torch.zeros((), device=one.items.device))
    return torch.stack(products) / (one.items * other.items)


def _compare(
    names: Sequence[str], groups: Sequence[str], gradients: Mapping[str, _TaskGradient]
) -> GradientComparison:
    """Compare gradients; the values are read from the device at once."""
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i:]]
    products = torch.stack([_products(gradients[one], gradients[other]) for one, other in pairs]).cpu().double()
    products = torch.cat([products, products.sum(1, keepdim=True)], dim=1)
    norms: dict[str, dict[str, float]] = {}
    cosines: dict[str, dict[tuple[str, str], float]] = {}
    for group, of_group in zip([*groups, ALL], products.T.tolist(), strict=True):
        dots = dict(zip(pairs, of_group, strict=True))
        norms[group] = {name: max(dots[name, name], 0.0) ** 0.5 for name in names}
        cosines[group] = {}
        for one, other in pairs:
            size = norms[group][one] * norms[group][other]
            if one != other and 0 < size < float("inf"):
                cosines[group][one, other] = min(max(dots[one, other] / size, -1.0), 1.0)
    return GradientComparison(norms, cosines)
