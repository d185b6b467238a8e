"""The layers of an encoder, found by what runs one after the other in a forward pass."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn


def list_layers(encoder: nn.Module) -> nn.ModuleList | None:
    """Return the list of an encoder's layers, without a look at how they run.

    It is a ``ModuleList`` of modules of one class, or with the number of layers in the config. Among several, a list
    with this number comes first, then the one with the most parameters, then the shallowest.

    Args:
        encoder: Encoder, of which the weights may not be there yet.

    Returns:
        The list; None if there is none.
    """
    expected = getattr(getattr(encoder, "config", None), "num_hidden_layers", None)
    candidates = [
        (len(module) == expected, sum(p.numel() for p in module.parameters()), -name.count("."), module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList)
        and (len(module) == expected or len({type(layer) for layer in module}) == 1)
    ]
    if not candidates:
        return None
    layers = max(candidates, key=lambda candidate: candidate[:3])[-1]
    return None if expected is not None and len(layers) < expected else layers


def find_layers(encoder: nn.Module) -> nn.ModuleList | None:
    """Find the list of an encoder's layers that it can be divided by.

    Args:
        encoder: Encoder.

    Returns:
        The list; None if there is none, or if the encoder cannot be divided by it: layers share their weights, as in
        ALBERT, run in another order or more than once, or other weights run between them, as in XLM.
    """
    layers = list_layers(encoder)
    if layers is None:
        return None
    trace = trace_layers(encoder, layers)
    return layers if trace.order == list(range(len(layers))) and not own_weights(trace.between) else None


@torch.no_grad()
def probe_forward(encoder: nn.Module) -> None:
    """Run an encoder on two tokens, so that hooks can observe its forward pass.

    The encoder runs in eval mode, which draws no random numbers, so that probing it does not change a run.
    """
    with evaluating(encoder):
        encoder(**probe_inputs(encoder))


def probe_inputs(encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Return a batch of two different tokens for an encoder.

    Raises:
        ValueError: If the encoder does not read tokens.
    """
    found = getattr(encoder, "main_input_name", "input_ids")
    if found != "input_ids":
        raise ValueError(
            f"layer groups: expected a text encoder, which reads input_ids; found {type(encoder).__name__}, which "
            f"reads {found}."
        )
    input_ids = torch.tensor([[1, 2]], device=next(encoder.parameters()).device)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set a module to eval mode in this context, and restore the mode of each of its parts after it."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


class Trace(NamedTuple):
    """What runs in a forward pass around the layers of an encoder.

    Args:
        order: Indices of the layers in the order in which they run.
        between: Modules outside the layers that first run after the second layer has begun and before the last ends.
            What runs beside the first layer, as a convolution in DeBERTa, reads the embeddings and counts to them.
        after: Modules that first run after the last layer.
    """

    order: list[int]
    between: set[nn.Module]
    after: set[nn.Module]


def trace_layers(encoder: nn.Module, layers: nn.ModuleList) -> Trace:
    """Observe a forward pass of an encoder.

    Args:
        encoder: Encoder.
        layers: List of its layers.
    """
    trace = Trace([], set(), set())
    index = {layer: i for i, layer in enumerate(layers)}
    inside = {module for layer in layers for module in layer.modules()}
    seen: set[nn.Module] = set()
    ended = False

    def record(module: nn.Module, *_: object) -> None:
        if module in index:
            trace.order.append(index[module])
        elif module not in inside and module not in seen:
            seen.add(module)
            if ended:
                trace.after.add(module)
            elif len(trace.order) > 1:
                trace.between.add(module)

    def mark_last_layer(*_: object) -> None:
        nonlocal ended
        ended = True

    hooks = [module.register_forward_pre_hook(record) for module in encoder.modules()]
    hooks.append(layers[-1].register_forward_hook(mark_last_layer))
    try:
        probe_forward(encoder)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def own_weights(modules: Iterable[nn.Module]) -> set[nn.Parameter]:
    """Return the weights of modules, without those of their parts."""
    return {parameter for module in modules for parameter in module.parameters(recurse=False)}
