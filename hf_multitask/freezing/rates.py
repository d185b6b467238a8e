"""Learning rates by layer group."""

from collections.abc import Mapping

import torch
from transformers import get_scheduler

from ..models.layer_groups import HEAD, NORM, LayerGroups, layer_in_encoder, layer_ranges
from .stage import PLATEAU, FreezeStage


def peak_rates(
    groups: LayerGroups,
    learning_rate: float,
    head_learning_rate: float,
    stage: FreezeStage | None = None,
    layer_lr_decay: float | None = None,
) -> dict[str, float]:
    """Return the peak learning rate of each group.

    With ``layer_lr_decay``, each layer has the rate of the layer above it times the decay, from the top layer down
    (Howard and Ruder 2018, section 3.2).

    Args:
        groups: The model's groups, from the bottom up.
        learning_rate: The run's peak rate of the encoder.
        head_learning_rate: The run's peak rate of the heads.
        stage: Stage whose own rates and decay take precedence.
        layer_lr_decay: The run's factor of the rate from each layer to the layer below it. No decay if None.

    Returns:
        Rates by group name.
    """
    if stage is not None:
        learning_rate = learning_rate if stage.learning_rate is None else stage.learning_rate
        head_learning_rate = head_learning_rate if stage.head_learning_rate is None else stage.head_learning_rate
        layer_lr_decay = layer_lr_decay if stage.layer_lr_decay is None else stage.layer_lr_decay
    decay = 1.0 if layer_lr_decay is None else layer_lr_decay
    encoder = dict.fromkeys(layer_in_encoder(group.layer) for group in groups if not group.is_head)
    # Adapters have the rate of their layer, and a final norm has the rate of the layer below it.
    below_top = {layer: depth for depth, layer in enumerate(reversed([layer for layer in encoder if layer != NORM]))}
    return {
        group.name: head_learning_rate
        if group.is_head
        else learning_rate * decay ** below_top.get(layer_in_encoder(group.layer), 0)
        for group in groups
    }


def rates_in_words(rates: Mapping[str, float]) -> list[str]:
    """Return learning rates as lines: the encoder's groups, from the lowest rate to the highest, then the heads.

    Args:
        rates: Rates by group name.
    """
    encoder = {name: rate for name, rate in rates.items() if not name.startswith(HEAD)}
    lines = []
    if encoder:
        lowest, highest = min(encoder.values()), max(encoder.values())
        span = f"{highest:.3g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g}"
        lines.append(f"{', '.join(layer_ranges(encoder))}: {span}")
    by_rate: dict[float, list[str]] = {}
    for name, rate in rates.items():
        if name.startswith(HEAD):
            by_rate.setdefault(rate, []).append(name)
    return [*lines, *(f"{', '.join(names)}: {rate:.3g}" for rate, names in by_rate.items())]


class StageRateFactor:
    """Warm-up and decay within a stage: the factor of the peak rate at each step.

    Args:
        stage: A stage with ``lr_scheduler_type`` or ``warmup_steps``.
        num_steps: Number of steps of the stage, the maximum if a metric ends it.

    Raises:
        ValueError: If the scheduler does not take the ``lr_scheduler_kwargs``, or needs others.
    """

    def __init__(self, stage: FreezeStage, num_steps: int) -> None:
        warmup = stage.warmup_steps or 0
        self.warmup_steps = round(warmup * num_steps) if warmup < 1 else int(warmup)
        unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        kind, kwargs = stage.lr_scheduler_type or "linear", stage.lr_scheduler_kwargs
        if kind == PLATEAU:
            # Its metric lowers the peak rates.
            kind, kwargs = "constant_with_warmup", None
        try:
            scheduler = get_scheduler(
                kind,
                unused,
                num_warmup_steps=self.warmup_steps,
                num_training_steps=max(num_steps, self.warmup_steps + 1),
                scheduler_specific_kwargs=kwargs,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"stage {stage.name!r}: lr_scheduler_type {kind!r}: {error}") from error
        (self.factor,) = scheduler.lr_lambdas

    def __call__(self, step: int) -> float:
        """Return the factor at a step of the stage, counted from 0."""
        # A warm-up starts from 0. With the factor of the end of the step, the first step of a stage already trains.
        return self.factor(step + 1 if step < self.warmup_steps else step)


def set_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float]) -> None:
    """Set the learning rates of an optimizer's parameter groups, by their key ``"layer_group"``."""
    for parameter_group in optimizer.param_groups:
        parameter_group["lr"] = rates[parameter_group["layer_group"]]


def trained_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the current learning rates of the layer groups that train.

    The result is empty if the caller passed their own optimizer, whose groups have no ``"layer_group"``.
    """
    return {
        group["layer_group"]: group["lr"]
        for group in optimizer.param_groups
        if "layer_group" in group and group["params"][0].requires_grad
    }
