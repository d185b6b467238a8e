"""Plan of a schedule: groups, steps, learning rates and memory of each stage, before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..models.layer_groups import LayerGroups, layer_ranges
from ..models.table_repr import ReprTable, ShownAsTable
from ..runtime.byte_sizes import format_bytes
from .rates import peak_rates, rates_in_words
from .schedule import FreezeSchedule

PLAN_HEADER = ("stage", "steps", "ends with", "trains, at peak learning rate", "parameters", "memory")


@dataclass(frozen=True)
class StagePlan:
    """Plan of one stage.

    Args:
        name: Name of the stage.
        start_step: Optimizer step at which it starts; None if a metric decides.
        steps: Number of optimizer steps, the maximum if a metric ends the stage; None if unknown.
        end: Description of the end of the stage.
        trained_groups: Groups that train.
        may_freeze: Groups among them that the run may freeze as they stop learning; the others train for certain.
        trainable_parameters: Number of weights of these groups.
        trainable_share: Share of all weights.
        learning_rates: Peak learning rates of these groups.
        gradient_bytes: Memory of their gradients.
        optimizer_bytes: Memory of the optimizer state at the end of the stage, including the groups of earlier stages;
            None if it cannot be computed.
    """

    name: str
    start_step: int | None
    steps: int | None
    end: str
    trained_groups: list[str]
    may_freeze: list[str]
    trainable_parameters: int
    trainable_share: float
    learning_rates: dict[str, float]
    gradient_bytes: int
    optimizer_bytes: int | None

    def in_words(self) -> list[str]:
        """Return the stage as a row of a table under `PLAN_HEADER`."""
        state = "unknown" if self.optimizer_bytes is None else format_bytes(self.optimizer_bytes, "MiB")
        return [
            self.name,
            self._steps_in_words(),
            self.end,
            "\n".join([*rates_in_words(self.learning_rates), *self._decided_later()]) or "nothing",
            f"{self.trainable_parameters:,}\n{self.trainable_share:.1%}",
            f"gradients {format_bytes(self.gradient_bytes, 'MiB')}\noptimizer {state}",
        ]

    def _decided_later(self) -> list[str]:
        """Return what the run decides, as a line."""
        return [f"decided later: {', '.join(layer_ranges(self.may_freeze))} may freeze"] if self.may_freeze else []

    def _steps_in_words(self) -> str:
        if self.steps is None:
            return "by metric"
        if self.start_step is None:
            return f"at most {self.steps}"
        return f"{self.start_step + 1}-{self.start_step + self.steps}"


class StagePlans(ShownAsTable, list[StagePlan]):
    """Plans of the stages of a run, in order. Printed as a table of them."""

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the stages."""
        rows = [[cell.replace("\n", "; ") for cell in plan.in_words()] for plan in self]
        return [ReprTable("Plan of the stages", PLAN_HEADER, rows)]


def plan_stages(
    schedule: FreezeSchedule,
    groups: LayerGroups,
    steps_per_epoch: int,
    max_steps: int,
    learning_rate: float,
    head_learning_rate: float,
    layer_lr_decay: float | None,
    optimizer_class: type[torch.optim.Optimizer],
    optimizer_kwargs: Mapping[str, Any],
) -> StagePlans:
    """Plan each stage of a schedule.

    Args:
        schedule: The schedule.
        groups: The model's groups.
        steps_per_epoch: Optimizer steps per epoch.
        max_steps: Optimizer steps of the run.
        learning_rate: The run's peak rate of the encoder.
        head_learning_rate: The run's peak rate of the heads.
        layer_lr_decay: The run's factor of the rate from each layer to the layer below it.
        optimizer_class: Class of the optimizer.
        optimizer_kwargs: Arguments of the optimizer.

    Returns:
        The stages, in order.

    Raises:
        ValueError: If the stages do not fit the length of the run.
    """
    schedule.check_length(steps_per_epoch, max_steps)
    all_parameters = sum(group.num_parameters for group in groups)
    start: int | None = 0
    trained_so_far: set[str] = set()
    plans = StagePlans()
    for stage in schedule.stages:
        trained = stage.trained(groups)
        trained_so_far.update(trained)
        weights = list(groups.parameters_of(trained).values())
        rates = peak_rates(groups, learning_rate, head_learning_rate, stage, layer_lr_decay)
        length = stage.max_steps(steps_per_epoch)
        if length is None and start is not None:
            length = max_steps - start
        number = sum(weight.numel() for weight in weights)
        plans.append(
            StagePlan(
                name=stage.name,
                start_step=start,
                steps=length,
                end=stage.end_in_words(),
                trained_groups=trained,
                may_freeze=stage.may_freeze(groups),
                trainable_parameters=number,
                trainable_share=number / all_parameters,
                learning_rates={name: rates[name] for name in trained},
                gradient_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
                optimizer_bytes=optimizer_state_bytes(
                    list(groups.parameters_of(trained_so_far).values()), optimizer_class, optimizer_kwargs
                ),
            )
        )
        start = None if start is None or length is None or stage.until is not None else start + length
    return plans


def optimizer_state_bytes(
    weights: Sequence[nn.Parameter], optimizer_class: type[torch.optim.Optimizer], kwargs: Mapping[str, Any]
) -> int | None:
    """Return the memory of an optimizer's state.

    The optimizer creates its state on the meta device, where tensors have a size but no memory.

    Args:
        weights: The weights.
        optimizer_class: Class of the optimizer.
        kwargs: Arguments of the optimizer.

    Returns:
        Number of bytes; None if the optimizer does not work on the meta device.
    """
    shadows = [nn.Parameter(torch.empty_like(weight, device="meta")) for weight in weights]
    if not shadows:
        return 0
    for shadow in shadows:
        shadow.grad = torch.empty_like(shadow)
    try:
        # A fused kernel keeps the same state but exists only on real devices.
        optimizer = optimizer_class(shadows, **{**kwargs, **({"fused": False} if kwargs.get("fused") else {})})
        optimizer.step()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
