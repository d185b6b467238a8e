"""Private layers: a task's own copies of the upper layers of the encoder, which run beside the shared ones."""

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from .encoder_layers import list_layers
from .tasks import TaskConfig

# Positional and keyword arguments of a layer.
LayerCall = tuple[tuple[Any, ...], dict[str, Any]]


def copy_private_layers(encoder: nn.Module, task: TaskConfig) -> nn.ModuleDict:
    """Copy the upper layers of an encoder for a task.

    Args:
        encoder: The encoder.
        task: Task with ``private_layers``.

    Returns:
        The copies, by the index of the layer in the encoder.

    Raises:
        ValueError: If the encoder has too few layers.
    """
    layers = list_layers(encoder)
    number = 0 if layers is None else len(layers)
    if layers is None or not task.private_layers < number:
        raise ValueError(
            f"task {task.name!r}: private_layers must be below the number of layers of the encoder, {number}, because "
            f"at least one is shared; found {task.private_layers}."
        )
    first = number - task.private_layers
    # The copies are new weights, which train where the shared ones are frozen.
    return nn.ModuleDict({str(i): copy.deepcopy(layers[i]).requires_grad_(True) for i in range(first, number)})


def check_one_shares(tasks: Sequence[TaskConfig]) -> None:
    """Raise if no task uses the upper layers of the encoder, because all have their own."""
    if tasks and all(task.private_layers for task in tasks):
        raise ValueError(
            f"private_layers: all tasks ({', '.join(task.name for task in tasks)}) have some, and none would use the "
            "encoder's own upper layers. Leave private_layers out of one of them: these layers are then its own."
        )


def put_in_encoder(encoder: nn.Module, private: nn.Module) -> None:
    """Put private layers in the place of the encoder's own."""
    layers = list_layers(encoder)
    for index, layer in private.named_children():
        layers[int(index)] = layer  # type: ignore[index]


def lowest_private(tasks: Sequence[TaskConfig], num_layers: int) -> int:
    """Return the index of the lowest layer that a task has a copy of; the number of layers if there is none."""
    lowest = num_layers
    for task in tasks:  # torch.compile traces this, but no minimum of a generator
        lowest = min(lowest, num_layers - task.private_layers)
    return lowest


@contextmanager
def recorded_calls(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, LayerCall]]:
    """Record the arguments that layers of the encoder are called with in this context.

    A private layer is called with the arguments of the shared one: masks, positions, and whatever else an encoder
    passes to this layer.

    Args:
        layers: Layers of the encoder, by index.

    Yields:
        Arguments by index.
    """
    calls: dict[str, LayerCall] = {}
    thread = threading.get_ident()

    def record(index: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() == thread:  # another one may run the same encoder
            calls[index] = (args, kwargs)

    hooks = [
        layer.register_forward_pre_hook(partial(record, index), with_kwargs=True) for index, layer in layers.items()
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def run_private_layers(
    layers: nn.Module, calls: Mapping[str, LayerCall], final_modules: Sequence[nn.Module]
) -> list[torch.Tensor]:
    """Run the private layers of a task on the states that enter the lowest of them.

    Args:
        layers: ``ModuleDict`` of the private layers, by index.
        calls: Arguments of the shared layers; see `recorded_calls`.
        final_modules: Modules that the encoder runs after its last layer, such as a norm. All tasks share them.

    Returns:
        Output of each layer (batch, seq_len, hidden), the last one after the final modules.
    """
    states: torch.Tensor | None = None
    outputs = []
    for index, layer in layers.named_children():
        (entering, *others), options = calls[index]
        output = layer(entering if states is None else states, *others, **options)
        states = output[0] if isinstance(output, tuple) else output
        outputs.append(states)
    for module in final_modules:
        outputs[-1] = module(outputs[-1])
    return outputs
