"""Freezing groups of a model: no gradient, no update, no dropout."""

from collections.abc import Collection, Iterable
from functools import partial

from torch import nn

from ..models.layer_groups import LayerGroups, layer_groups, name_patterns


def freeze(model: nn.Module, selectors: str | Iterable[str]) -> list[str]:
    """Freeze groups of a model and unfreeze all others. Weights of an encoder with adapters stay as they are.

    A frozen group has ``requires_grad=False`` and stays in eval mode even after ``model.train()``: it gets no
    gradient, no update and no dropout.

    Args:
        model: The model, not wrapped.
        selectors: Groups to freeze: ``"none"``, ``"all"``, ``"heads"``, ``"encoder"``, a group of
            `MultiTaskModel.layer_groups`, layers such as ``"encoder[:4]"``, weights by a pattern of their names such
            as ``"name:*.LayerNorm.*"``, or several of them.

    Returns:
        Names of the frozen groups, from the bottom up.

    Raises:
        ValueError: If a selector is unknown. The message names the groups that exist.
    """
    given = [selectors] if isinstance(selectors, str) else list(selectors)
    try:
        groups = layer_groups(model).divide(name_patterns(given))
        frozen = groups.select(given)
    except ValueError as error:
        raise ValueError(f"freeze: {error}") from error
    fixed = [group.name for group in groups if groups.adapters and not group.is_head and not group.is_adapter]
    trained = [group.name for group in groups if group.name not in (*frozen, *fixed)]
    train_only(model, groups, trained, [name for name in fixed if name not in frozen])
    return frozen


def train_only(
    model: nn.Module, groups: LayerGroups, trained: Collection[str], unchanged: Collection[str] = ()
) -> None:
    """Train some groups of a model and freeze all others.

    Args:
        model: The model that the groups are bound to.
        groups: All groups of the model.
        trained: Names of the groups that train.
        unchanged: Names of groups that stay as they are.
    """
    for group in groups:
        if group.name in unchanged:
            continue
        for parameter in group.parameters.values():
            parameter.requires_grad_(group.name in trained)
            # A gradient from an earlier step would still move the weight once.
            parameter.grad = None
    set_modes(model, groups)


def set_modes(model: nn.Module, groups: LayerGroups) -> None:
    """Keep modules whose weights are all frozen in eval mode; set the others to the mode of the model."""
    bottom_trains = any(group.trainable for group in groups if group.layer == groups[0].layer)
    _set_modes(model, model.training, bottom_frozen=not bottom_trains)


def _set_modes(module: nn.Module, training: bool, bottom_frozen: bool) -> None:
    # An instance attribute hides the method of the class: Trainer calls model.train() at every step.
    vars(module).pop("train", None)
    # A module without weights follows the module that contains it. One outside of the layers follows the lowest group.
    trains = {weight.requires_grad for weight in module.parameters()} or {not bottom_frozen}
    if trains == {False}:
        module.eval()
        # Not a bound method, which pickle would look up in the class.
        module.train = partial(_stay_in_eval_mode, module)  # type: ignore[method-assign]
        return
    module.training = training
    for child in module.children():
        _set_modes(child, training, bottom_frozen and False in trains)


def _stay_in_eval_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
