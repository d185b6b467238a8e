"""Forward pass through some of an encoder's layers, to or from the states that enter a layer group."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .encoder_layers import evaluating, find_layers, probe_forward, probe_inputs, trace_layers
from .layer_groups import ENCODER, HEAD, NORM, is_private, layer_in_encoder
from .messages import unknown_name_message

# Output of a layer: its states, or a tuple that starts with them.
LayerOutput = torch.Tensor | tuple[Any, ...]

# Name of the group that the output of the whole encoder enters.
HEADS = "heads"


def lowest_trained(groups: Sequence[str], trained: Sequence[str]) -> str:
    """Return the highest group whose entering states do not change during training.

    Args:
        groups: Names of all groups, from the bottom up.
        trained: Names of the trainable groups.

    Returns:
        The lowest group of the encoder that trains or has a private copy, or ``heads`` if the whole encoder is frozen.
    """
    encoder = [name for name in groups if not name.startswith(HEAD)]
    # An adapter reads the states that enter its layer, and so does a private layer, whether it trains or not.
    reading = {layer_in_encoder(name) for name in encoder if name in trained or is_private(name)}
    return next((layer for name in encoder if (layer := layer_in_encoder(name)) in reading), HEADS)


class PartialForward:
    """Runs an encoder to or from the states that enter a layer group.

    Layers are skipped by replacing ``forward`` on their instances while the encoder runs. The encoder's own code
    around its layers (masks, positions, norms) runs unchanged, and its modules and weights stay in place.

    Args:
        encoder: Encoder.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        self.encoder = encoder
        self.layers = list(find_layers(encoder) or [])
        # Most layers return a tensor; the layers of MPNet and DeBERTa return a tuple that starts with it.
        self.tuple_length: int | None = None
        if self.layers:
            hook = self.layers[0].register_forward_hook(self._note_output)
            try:
                probe_forward(encoder)
            finally:
                hook.remove()

    @cached_property
    def final_modules(self) -> list[nn.Module]:
        """Modules with weights that run after the last layer, such as a norm."""
        if not self.layers:
            return []
        after = trace_layers(self.encoder, nn.ModuleList(self.layers)).after
        parts = {part for module in after for part in module.modules() if part is not module}
        outermost = [module for module in self.encoder.modules() if module in after - parts]
        return [module for module in outermost if next(module.parameters(), None) is not None]

    @cached_property
    def can_enter_layers(self) -> bool:
        """Whether the layers read nothing but the states of the layer below and what the encoder passes to all.

        The layers of T5 read the position bias that the first one computes.
        """
        if len(self.layers) < 2:
            return bool(self.layers)
        last = f"{ENCODER}.{len(self.layers) - 1}"
        inputs = probe_inputs(self.encoder)
        with torch.no_grad(), evaluating(self.encoder):
            try:
                states = self._collect([last, HEADS], inputs)
                found = self._run_from(states[last], last, inputs)["last_hidden_state"]
            except Exception:  # a layer that cannot be replaced fails in its own way
                return False
        return torch.allclose(found, states[HEADS], rtol=1e-3, atol=1e-4, equal_nan=True)

    def forward_from(self, states: torch.Tensor, entering: str, inputs: Mapping[str, Any]) -> BaseModelOutput:
        """Run the encoder from the states that enter a group.

        Args:
            states: States (batch, seq_len, hidden).
            entering: Group that the states enter: ``encoder.1`` … or ``encoder.norm``.
            inputs: Inputs of the encoder.

        Returns:
            Output of the encoder.

        Raises:
            ValueError: If states cannot enter this group. The message names the groups that they can enter.
        """
        self._check_entering([entering])
        return self._run_from(states, entering, inputs)

    def _run_from(self, states: torch.Tensor, entering: str, inputs: Mapping[str, Any]) -> BaseModelOutput:
        first = self._first_layer(entering)

        def return_states(*_: object, **__: object) -> LayerOutput:
            return self._layer_output(states)

        with (
            self._replace_forward(self.layers[: first - 1], self._skip_layer),
            self._replace_forward([self.layers[first - 1]], return_states),
        ):
            return self.encoder(**inputs)

    def states_entering(
        self,
        groups: Sequence[str],
        inputs: Mapping[str, Any],
        states: torch.Tensor | None = None,
        entering: str | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run the encoder only as far as needed and return the states that enter some groups.

        Args:
            groups: Names of groups: ``encoder.1`` …, ``encoder.norm``, ``heads``.
            inputs: Inputs of the encoder.
            states: States to start from, which enter a group below all of ``groups``; the encoder runs from the bottom
                if None.
            entering: Group that ``states`` enter.

        Returns:
            States (batch, seq_len, hidden) by group.

        Raises:
            ValueError: If the states that enter a group cannot be returned. The message names the groups that work.
        """
        self._check_entering(groups)
        return self._collect(groups, inputs, states, entering)

    def _check_entering(self, groups: Sequence[str]) -> None:
        layers = [self._first_layer(group) for group in groups if group != HEADS]
        if layers and not self.can_enter_layers:
            raise ValueError(
                f"entering: the layers of this encoder ({self.encoder.config.model_type}) read more than the states "
                f"of the layer below, and cannot start from stored states. Allowed: {HEADS!r}."
            )

    def _collect(
        self,
        groups: Sequence[str],
        inputs: Mapping[str, Any],
        states: torch.Tensor | None = None,
        entering: str | None = None,
    ) -> dict[str, torch.Tensor]:
        entering_states: dict[str, torch.Tensor] = {}
        below = {group: self._first_layer(group) - 1 for group in groups if group != HEADS}
        hooks = [
            self.layers[i].register_forward_hook(_store_output(entering_states, group)) for group, i in below.items()
        ]
        unused = [] if HEADS in groups else self.layers[max(below.values()) + 1 :]
        try:
            with self._replace_forward(unused, self._skip_layer):
                if states is None or entering is None:
                    output = self.encoder(**inputs)
                else:
                    output = self._run_from(states, entering, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if HEADS in groups:
            entering_states[HEADS] = output.last_hidden_state
        return entering_states

    def _first_layer(self, group: str) -> int:
        """Return the index of the first layer above the states that enter a group; the number of layers for a norm."""
        starts = {f"{ENCODER}.{i}": i for i in range(1, len(self.layers))}
        if self.layers:
            starts[NORM] = len(self.layers)
        if group not in starts:
            raise ValueError(f"entering: {unknown_name_message('group', group, [*starts, HEADS])}")
        return starts[group]

    @contextmanager
    def _replace_forward(self, layers: Sequence[nn.Module], forward: Callable[..., LayerOutput]) -> Iterator[None]:
        """Replace ``forward`` of some layers inside the context."""
        # An instance may have its own forward already, such as one that accelerate has wrapped.
        own = [(layer, vars(layer).get("forward")) for layer in layers]
        for layer in layers:
            layer.forward = forward
        try:
            yield
        finally:
            for layer, original in own:
                if original is None:
                    del layer.forward
                else:
                    layer.forward = original

    def _skip_layer(self, states: torch.Tensor, *_: object, **__: object) -> LayerOutput:
        return self._layer_output(states)

    def _layer_output(self, states: torch.Tensor) -> LayerOutput:
        return states if self.tuple_length is None else (states, *[None] * (self.tuple_length - 1))

    def _note_output(self, _: nn.Module, __: object, output: LayerOutput) -> None:
        self.tuple_length = len(output) if isinstance(output, tuple) else None


def _store_output(states: dict[str, torch.Tensor], group: str) -> Callable[[nn.Module, object, LayerOutput], None]:
    def hook(_: nn.Module, __: object, output: LayerOutput) -> None:
        states[group] = output[0] if isinstance(output, tuple) else output

    return hook
