"""Methods that choose the weight of each task's loss while a model trains, by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import ClassVar

import torch

from ..models.field_types import check_fields
from ..models.messages import unknown_name_message
from ..models.tasks import REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from .gradient_methods import TORCHJD, GradientMethod, check_option, read_gradient_method

# A mean loss counts as at least this, since methods divide by it and take its logarithm.
_LEAST_LOSS = 1e-6
# Share of a running mean of losses that stays at each step, and of gradient norms at each measurement.
_LOSS_DECAY = 0.9
_NORM_DECAY = 0.5


class BalancingMethod:
    """Weights of the losses of a training. A weight of 1 for each task is the plain sum.

    State and losses are tensors with an item per task, on the device, so that no step waits for them.
    """

    name: ClassVar[str]

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training.

        Args:
            tasks: Tasks of the model.
            device: Device of the losses.
            seed: Seed of the training.
        """
        self.num_tasks, self.device, self.seed = len(tasks), device, seed
        self.state: dict[str, torch.Tensor] = {}

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step.

        Args:
            step: Optimizer steps so far.
        """
        raise NotImplementedError

    def update(self, step: int, losses: torch.Tensor, present: torch.Tensor) -> None:
        """Take the losses of an optimizer step into account; nothing by default.

        Args:
            step: Optimizer steps so far, this one included.
            losses: Mean loss of each task over the step, on all processes.
            present: Whether the step had labels of each task. A loss without labels is not taken into account.
        """

    def needs_norms(self, step: int) -> bool:
        """Return whether `update_norms` should follow a step."""
        return False

    def update_norms(self, norms: Mapping[str, float]) -> None:
        """Take the norms of the gradients on all shared weights into account, by task."""
        raise NotImplementedError

    def state_dict(self) -> JsonObject:
        """Return the state, as values that JSON keeps exactly."""
        return {name: values.tolist() for name, values in self.state.items()}

    def load_state_dict(self, state: JsonObject) -> None:
        """Continue with what `state_dict` has returned."""
        for name, values in self.state.items():
            self.state[name] = torch.tensor(state[name], dtype=values.dtype, device=self.device)

    def _add_state(self, *names: str, fill: float = 0.0) -> None:
        for name in names:
            self.state[name] = torch.full((self.num_tasks,), fill, device=self.device)


class _AdamMethod(BalancingMethod):
    """Method whose weights depend on a parameter per task, which Adam updates where the task is present.

    The parameters have an optimizer of their own: they are in no parameter group, so that freezing, clipping and the
    schedule of the learning rate do not reach them, and their gradients are known without a backward pass.
    """

    learning_rate: float

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training; see `BalancingMethod.begin`."""
        super().begin(tasks, device, seed)
        self._add_state("parameter", "mean", "square", "count")

    def _step(self, gradient: torch.Tensor, present: torch.Tensor) -> None:
        state = self.state
        count = state["count"] + present
        mean = 0.9 * state["mean"] + 0.1 * gradient
        square = 0.999 * state["square"] + 0.001 * gradient**2
        size = (square / (1 - 0.999**count)).sqrt() + 1e-8
        parameter = state["parameter"] - self.learning_rate * mean / (1 - 0.9**count) / size
        new = {"parameter": parameter, "mean": mean, "square": square, "count": count}
        for name, values in new.items():
            state[name] = torch.where(present, values, state[name])


@dataclass
class Uncertainty(_AdamMethod):
    """Uncertainty weighting (Kendall et al. 2018).

    The weight of a task is exp(-s), and half of it for a regression. s minimizes the weighted loss plus s / 2, so
    that a task with a high loss, whose noise is high, counts less.

    Args:
        learning_rate: Rate of Adam for s.
    """

    learning_rate: float = 0.01
    name: ClassVar[str] = "uncertainty"

    def __post_init__(self) -> None:
        check_fields(self, f"loss_balancing: {self.name}: ")
        _check_above_zero(self, "learning_rate")

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training; see `BalancingMethod.begin`."""
        super().begin(tasks, device, seed)
        factors = [0.5 if task.problem_type == REGRESSION else 1.0 for task in tasks]
        self._factors = torch.tensor(factors, device=device)

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step; see `BalancingMethod.weights`."""
        return self._factors * torch.exp(-self.state["parameter"])

    def update(self, step: int, losses: torch.Tensor, present: torch.Tensor) -> None:
        """Take the losses of a step into account; see `BalancingMethod.update`."""
        self._step(0.5 - self.weights(step) * losses, present)


@dataclass
class DynamicWeightAverage(BalancingMethod):
    """Dynamic weight average (Liu et al. 2019): a task whose loss falls slower than that of others counts more.

    The weights are a softmax of the ratio of the last two means of each loss, times the number of tasks. The means are
    over windows of steps, because a training of an encoder has few epochs.

    Args:
        temperature: Temperature of the softmax; the higher, the more equal the weights.
        steps: Optimizer steps of a window.
    """

    temperature: float = 2.0
    steps: int = 100
    name: ClassVar[str] = "dwa"

    def __post_init__(self) -> None:
        check_fields(self, f"loss_balancing: {self.name}: ")
        _check_above_zero(self, "temperature", "steps")

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training; see `BalancingMethod.begin`."""
        super().begin(tasks, device, seed)
        self._add_state("sum", "count", "last", "before_last")

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step; see `BalancingMethod.weights`."""
        last, before = self.state["last"], self.state["before_last"]
        ratios = torch.where((last > 0) & (before > 0), last / before.clamp(min=_LEAST_LOSS), 1.0)
        return self.num_tasks * torch.softmax(ratios / self.temperature, 0)

    def update(self, step: int, losses: torch.Tensor, present: torch.Tensor) -> None:
        """Take the losses of a step into account; see `BalancingMethod.update`."""
        state = self.state
        state["sum"] = state["sum"] + torch.where(present, losses, 0.0)
        state["count"] = state["count"] + present
        if step % self.steps == 0:
            seen = state["count"] > 0
            state["before_last"] = torch.where(seen, state["last"], state["before_last"])
            state["last"] = torch.where(seen, state["sum"] / state["count"].clamp(min=1), state["last"])
            self._add_state("sum", "count")


@dataclass
class Famo(_AdamMethod):
    """Fast adaptive multitask optimization, FAMO (Liu et al. 2023): the logarithms of all losses fall alike.

    The weights are a softmax divided by the losses, scaled so that their sum is the number of tasks. A task whose loss
    falls slower than that of others gets more of the softmax. The losses are running means over about ten steps: the
    paper computes each batch a second time after its step, which costs a forward pass.

    Args:
        learning_rate: Rate of Adam for the logits of the softmax.
        decay: Weight decay of the logits.
    """

    learning_rate: float = 0.025
    decay: float = 0.001
    name: ClassVar[str] = "famo"

    def __post_init__(self) -> None:
        check_fields(self, f"loss_balancing: {self.name}: ")
        _check_above_zero(self, "learning_rate")
        if self.decay < 0:
            raise ValueError(f"loss_balancing: famo: decay must be at least 0, found {self.decay}.")

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training; see `BalancingMethod.begin`."""
        super().begin(tasks, device, seed)
        # 0 until the first loss of a task.
        self._add_state("loss")

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step; see `BalancingMethod.weights`."""
        seen = self.state["loss"] > 0
        shares = torch.softmax(self.state["parameter"], 0) / self.state["loss"].clamp(min=_LEAST_LOSS)
        shares = torch.where(seen, shares, 0.0)
        return torch.where(seen, shares / shares.sum().clamp(min=1e-12) * seen.sum(), 1.0)

    def update(self, step: int, losses: torch.Tensor, present: torch.Tensor) -> None:
        """Take the losses of a step into account; see `BalancingMethod.update`."""
        before, losses = self.state["loss"], losses.clamp(min=_LEAST_LOSS)
        counts = present & (before > 0)
        after = torch.where(before > 0, _LOSS_DECAY * before + (1 - _LOSS_DECAY) * losses, losses)
        self.state["loss"] = torch.where(present, after, before)
        shares = torch.softmax(self.state["parameter"].masked_fill(~counts, float("-inf")), 0).nan_to_num(0.0)
        fall = torch.where(counts, before.clamp(min=_LEAST_LOSS).log() - after.log(), 0.0)
        gradient = shares * (fall - (shares * fall).sum()) + self.decay * self.state["parameter"]
        self._step(gradient, counts)


@dataclass
class RandomWeights(BalancingMethod):
    """Random loss weighting (Lin et al. 2022): a softmax of normal random numbers, times the number of tasks.

    The numbers are a function of the seed and the step.
    """

    name: ClassVar[str] = "random"

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step; see `BalancingMethod.weights`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return (self.num_tasks * torch.softmax(torch.randn(self.num_tasks, generator=generator), 0)).to(self.device)


@dataclass
class EqualNorm(BalancingMethod):
    """Weights that give the gradients of all tasks the same norm on the shared weights; their sum stays the same.

    The norms are those of rows that are drawn for it, as with ``conflict_steps``, in a pass of its own; they are
    running means over the last measurements. The first one is after the first step.

    Args:
        steps: Optimizer steps from one measurement to the next.
    """

    steps: int = 50
    name: ClassVar[str] = "equal_norm"

    def __post_init__(self) -> None:
        check_fields(self, f"loss_balancing: {self.name}: ")
        _check_above_zero(self, "steps")

    def begin(self, tasks: Sequence[TaskConfig], device: torch.device, seed: int) -> None:
        """Begin a training; see `BalancingMethod.begin`."""
        super().begin(tasks, device, seed)
        self._names = [task.name for task in tasks]
        # 0 until the first measurement of a task.
        self._add_state("norm")

    def weights(self, step: int) -> torch.Tensor:
        """Return the weights for an optimizer step; see `BalancingMethod.weights`."""
        norms = self.state["norm"]
        inverse = torch.where(norms > 0, 1 / norms, 0.0)
        scale = (norms > 0).sum() / inverse.sum().clamp(min=1e-12)
        return torch.where(norms > 0, inverse * scale, 1.0)

    def needs_norms(self, step: int) -> bool:
        """Return whether the norms should be measured after a step."""
        return step == 1 or step % self.steps == 0

    def update_norms(self, norms: Mapping[str, float]) -> None:
        """Add a measurement to the running means."""
        new = torch.tensor([norms.get(name, 0.0) for name in self._names], device=self.device)
        old = self.state["norm"]
        mean = torch.where(old > 0, _NORM_DECAY * old + (1 - _NORM_DECAY) * new, new)
        self.state["norm"] = torch.where((new > 0) & new.isfinite(), mean, old)


def _check_above_zero(method: BalancingMethod, *names: str) -> None:
    for name in names:
        if not (value := getattr(method, name)) > 0:
            raise ValueError(f"loss_balancing: {method.name}: {name} must be above 0, found {value}.")


NONE = "none"
METHODS: dict[str, type[BalancingMethod]] = {
    method.name: method for method in (Uncertainty, DynamicWeightAverage, Famo, RandomWeights, EqualNorm)
}


def read_balancing(value: object) -> BalancingMethod | GradientMethod | None:
    """Return the method that ``loss_balancing`` names.

    Args:
        value: Name of a method, or a mapping with its options and its name as ``method`` or ``torchjd``. In JSON, a
            mapping may be a string.

    Returns:
        The method; None for the plain sum.

    Raises:
        ImportError: If the method needs a package that is not installed.
        ValueError: If there is no such method or option, or an option has a value that is not allowed.
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"loss_balancing: expected a name or a mapping in JSON, found {value!r}.") from error
    given = dict(value) if isinstance(value, Mapping) else {"method": value}
    if TORCHJD in given:
        return read_gradient_method(given)
    name = given.pop("method", None)
    if name in (None, NONE) and not given and (value is None or name is not None):
        return None
    if not isinstance(name, str) or name not in METHODS:
        if name is None:
            raise ValueError(f"loss_balancing: the mapping has no 'method'. Allowed: {', '.join([NONE, *METHODS])}.")
        raise ValueError(unknown_name_message("loss_balancing", name, [NONE, *METHODS]))
    method = METHODS[name]
    options: list[str] = [item.name for item in fields(method)] if is_dataclass(method) else []
    for option in given:
        check_option(name, option, options)
    return method(**given)
