"""A pass through a part of an encoder: up to the states that enter a layer group, or from such states on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .layer_groups import EMBEDDINGS, ENCODER, NORM, find_layers, probe_forward
from .messages import unknown_name_message

# What the states enter that the whole encoder has computed.
HEADS = "heads"


def lowest_trained(groups: Sequence[str], trained: Sequence[str]) -> str:
    """Return the group whose entering states stay the same while some groups train.

    Args:
        groups: Names of all groups, from the bottom up.
        trained: Names of those that train.

    Returns:
        The lowest group of the encoder that trains, ``heads`` where none does.
    """
    encoder = (name for name in groups if name in (EMBEDDINGS, ENCODER) or name.startswith(f"{ENCODER}."))
    return next((name for name in encoder if name in trained), HEADS)


class PartialForward:
    """Runs an encoder up to the states that enter a layer group, or from such states on.

    Layers are left out by another ``forward`` on the instance while the encoder runs. So all that it does around its
    layers (masks, positions, norms) stays its own, and its modules and weights stay as they are.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        self.encoder = encoder
        self.layers = list(find_layers(encoder) or [])
        # Most layers return a tensor; MPNet's and DeBERTa's a tuple with it in front.
        self.tuple_length: int | None = None
        if self.layers:
            hook = self.layers[0].register_forward_hook(self._note_output)
            try:
                probe_forward(encoder)
            finally:
                hook.remove()

    def forward_from(self, states: torch.Tensor, entering: str, inputs: Mapping[str, Any]) -> ModelOutput:
        """Run the encoder from states on.

        Args:
            states: The states (batch, seq_len, hidden).
            entering: The group that they enter: ``encoder.1`` … or ``encoder.norm``.
            inputs: What the encoder takes.

        Returns:
            What the encoder returns.

        Raises:
            ValueError: If states cannot enter there.
        """
        first = self._first_layer(entering)

        def return_states(*_: Any, **__: Any) -> Any:
            return self._as_output(states)

        with (
            self._replaced(self.layers[: first - 1], self._pass_on),
            self._replaced([self.layers[first - 1]], return_states),
        ):
            return self.encoder(**inputs)

    def states_entering(
        self,
        groups: Sequence[str],
        inputs: Mapping[str, Any],
        states: torch.Tensor | None = None,
        entering: str | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run the encoder as far as it takes and return the states that enter some groups.

        Args:
            groups: The groups: ``encoder.1`` …, ``encoder.norm``, ``heads``.
            inputs: What the encoder takes.
            states: States to start from, of a group below all of these; from the bottom where None.
            entering: The group that they enter.

        Returns:
            The states (batch, seq_len, hidden) by group.

        Raises:
            ValueError: If states cannot be taken there.
        """
        found: dict[str, torch.Tensor] = {}
        below = {group: self._first_layer(group) - 1 for group in groups if group != HEADS}
        hooks = [self.layers[i].register_forward_hook(_keep_output(found, group)) for group, i in below.items()]
        unused = [] if HEADS in groups else self.layers[max(below.values()) + 1 :]
        try:
            with self._replaced(unused, self._pass_on):
                if states is None or entering is None:
                    output = self.encoder(**inputs)
                else:
                    output = self.forward_from(states, entering, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if HEADS in groups:
            found[HEADS] = output.last_hidden_state
        return found

    def _first_layer(self, group: str) -> int:
        """Return the index of the first layer that runs on states entering a group; one behind the last for a norm."""
        starts = {f"{ENCODER}.{i}": i for i in range(1, len(self.layers))}
        if self.layers:
            starts[NORM] = len(self.layers)
        if group not in starts:
            raise ValueError(f"entering: {unknown_name_message('group', group, [*starts, HEADS])}")
        return starts[group]

    @contextmanager
    def _replaced(self, layers: Sequence[nn.Module], forward: Callable) -> Iterator[None]:
        """Give layers another ``forward`` for a while."""
        kept = [(layer, vars(layer).get("forward")) for layer in layers]
        for layer in layers:
            layer.forward = forward
        try:
            yield
        finally:
            for layer, own in kept:
                if own is None:
                    del layer.forward
                else:
                    layer.forward = own

    def _pass_on(self, states: torch.Tensor, *_: Any, **__: Any) -> Any:
        return self._as_output(states)

    def _as_output(self, states: torch.Tensor) -> Any:
        return states if self.tuple_length is None else (states, *[None] * (self.tuple_length - 1))

    def _note_output(self, _: nn.Module, __: Any, output: Any) -> None:
        self.tuple_length = len(output) if isinstance(output, tuple) else None


def _keep_output(found: dict[str, torch.Tensor], group: str) -> Callable:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        found[group] = output[0] if isinstance(output, tuple) else output

    return hook
