"""Weights of a training: parameter groups of the optimizer by layer group, and those with a gradient."""

from collections.abc import Collection, Mapping
from functools import cached_property

from torch import nn
from transformers import PreTrainedModel

from ..models.layer_groups import LayerGroups
from ..models.type_aliases import JsonObject


def check_optimizer_class(optim: str, optimizer_class: object, kwargs: Mapping[str, object]) -> None:
    """Check that an optimizer takes the parameter groups that it is given.

    Args:
        optim: The trainer's ``optim``.
        optimizer_class: Optimizer class that the Trainer chooses for it.
        kwargs: Arguments of the class.

    Raises:
        ValueError: If the optimizer makes its own parameter groups.
    """
    if not isinstance(optimizer_class, type) or kwargs.keys() & {"params", "model", "optimizer_dict"}:
        raise ValueError(
            f"optim={optim!r} makes its own parameter groups, which leaves no learning rate for the heads; choose an "
            "optimizer such as adamw_torch_fused, sgd or adafactor."
        )


def parameter_groups(
    groups: LayerGroups, rates: Mapping[str, float], decayed: Collection[str], weight_decay: float
) -> list[JsonObject]:
    """Divide the weights into parameter groups by layer group, with and without weight decay.

    Frozen weights are included. Without a gradient they cost no update and no optimizer state.

    Args:
        groups: Layer groups of the model, bound to its weights.
        rates: Learning rate by layer group.
        decayed: Names of the weights that decay.
        weight_decay: Their weight decay.

    Returns:
        Parameter groups with the name of their layer group as ``layer_group``.
    """
    parameters: list[JsonObject] = []
    for group in groups:
        for decay, decays in ((weight_decay, True), (0.0, False)):
            weights = [weight for name, weight in group.parameters.items() if (name in decayed) == decays]
            if weights:
                values = {"lr": rates[group.name], "weight_decay": decay, "layer_group": group.name}
                parameters.append({"params": weights, **values})
    return parameters


class TrainedWeights:
    """Weights of a model, listed once: a walk through all modules takes longer than clipping the gradients of a few.

    Args:
        model: The model, not wrapped.
        decayed: Names of the weights that decay.
        weight_decay: Their weight decay.
    """

    def __init__(self, model: PreTrainedModel, decayed: Collection[str], weight_decay: float) -> None:
        self.model = model
        self.decayed = set(decayed)
        self.weight_decay = weight_decay

    @cached_property
    def count(self) -> int:
        """Number of weights without those of the embeddings."""
        return self.model.num_parameters(exclude_embeddings=True)

    @cached_property
    def all(self) -> list[nn.Parameter]:
        """All weights."""
        return list(self.model.parameters())

    def with_gradients(self) -> list[nn.Parameter]:
        """Return the weights that have a gradient."""
        return [weight for weight in self.all if weight.grad is not None]

    def groups(self, groups: LayerGroups, rates: Mapping[str, float]) -> list[JsonObject]:
        """Return the parameter groups of an optimizer, see `parameter_groups`."""
        return parameter_groups(groups, rates, self.decayed, self.weight_decay)
