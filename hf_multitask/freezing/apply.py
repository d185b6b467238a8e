"""Which groups of a model are frozen: no gradient, no update, no dropout."""

import logging
from collections.abc import Iterable, Sequence

from torch import nn

from ..models.modeling_multitask import MultiTaskModel
from ..models.names import unknown_name

logger = logging.getLogger(__name__)


def group_modules(model: MultiTaskModel) -> dict[str, nn.Module]:
    """Return the groups that can be frozen: ``encoder`` and ``head.<task>`` for each task."""
    heads = {f"head.{name}": head for name, head in model.heads.items()}
    return {"encoder": model.encoder, **heads}


def select_groups(model: MultiTaskModel, selectors: str | Iterable[str]) -> list[str]:
    """Turn selectors into names of groups.

    Args:
        model: The model.
        selectors: One or several of ``"none"``, ``"all"``, ``"heads"``, ``"encoder"`` and ``"head.<task>"``.

    Returns:
        Names of groups, from the bottom of the model up.

    Raises:
        ValueError: If a selector is unknown. The message names the groups that exist.
    """
    groups = list(group_modules(model))
    expanded = {"none": [], "all": groups, "heads": groups[1:]} | {name: [name] for name in groups}
    chosen: set[str] = set()
    for selector in [selectors] if isinstance(selectors, str) else selectors:
        if selector not in expanded:
            raise ValueError(f"freeze: {unknown_name('group', selector, expanded)}")
        chosen.update(expanded[selector])
    return [name for name in groups if name in chosen]


def freeze(model: MultiTaskModel, selectors: str | Sequence[str]) -> list[str]:
    """Freeze groups of a model and unfreeze all others.

    A frozen group has ``requires_grad=False`` and stays in eval mode whatever ``model.train()`` says: it has no
    gradient, no update and no dropout.

    Args:
        model: The model.
        selectors: What to freeze, see `select_groups`.

    Returns:
        Names of the frozen groups.

    Raises:
        ValueError: If a selector is unknown.
    """
    frozen = select_groups(model, selectors)
    for name, module in group_modules(model).items():
        module.requires_grad_(name not in frozen)
        for parameter in module.parameters():
            parameter.grad = None
        # An instance attribute hides the method of the class: Trainer calls model.train() at every step.
        vars(module).pop("train", None)
        if name in frozen:
            module.eval()
            module.train = _stay_in_eval_mode.__get__(module)  # type: ignore[method-assign]
        else:
            module.train(model.training)
    return frozen


def _stay_in_eval_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
