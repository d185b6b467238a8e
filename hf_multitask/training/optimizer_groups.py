"""Parameter groups of the optimizer by layer group."""

from collections.abc import Collection, Mapping

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
