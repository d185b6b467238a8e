"""Gradient methods of TorchJD by name: they make one gradient of the shared weights of those of the tasks."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, get_args, get_origin

import numpy as np
import torch
from scipy.optimize import nnls

from ..models.field_types import describe_value
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runtime.extras import check_packages

TORCHJD = "torchjd"
PLACE = "loss_balancing"
# Makes the matrix of the scalar products positive definite, as TorchJD does.
_REGULARIZATION = 1e-4

# From the gradients of tasks (num_tasks, num_weights) to one gradient (num_weights,).
Aggregator = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class GradientMethod:
    """An aggregator of TorchJD.

    Args:
        aggregator: Name of its class.
        options: Arguments of the class.
    """

    aggregator: str
    options: JsonObject

    @property
    def name(self) -> str:
        """Name in a checkpoint and in messages."""
        return f"{{{TORCHJD}: {self.aggregator}}}"

    def build(self, num_tasks: int) -> Aggregator:
        """Return the aggregator.

        Args:
            num_tasks: Number of tasks of the model.

        Raises:
            ValueError: If it cannot aggregate the gradients of two tasks, or of more up to all of them.
        """
        parameters = inspect.signature(_aggregators()[self.aggregator]).parameters
        own: JsonObject = {"projector": project} if "projector" in parameters else {}
        try:
            aggregate: Aggregator = _aggregators()[self.aggregator](**self.options, **own)
            for count in range(2, num_tasks + 1):
                aggregate(torch.eye(count, count + 1))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{PLACE}: {self.name}: {error}") from error
        except ImportError as error:
            raise ImportError(f"{PLACE}: {self.name}: {error}") from error
        return aggregate


def gradient_method_names() -> list[str]:
    """Return the names of the aggregators of TorchJD that a training can use.

    Those with a state of their own are left out, because checkpoints would not have it, and those that need more than
    numbers and names.
    """
    names = []
    for name, aggregator in _aggregators().items():
        needed = [item for item in _arguments(aggregator) if item.default is inspect.Parameter.empty]
        if not hasattr(aggregator, "reset") and all(_takes_values(item) for item in needed):
            names.append(name)
    return names


def read_gradient_method(given: Mapping[str, object]) -> GradientMethod:
    """Return the method that a mapping names.

    Args:
        given: Mapping with the name as ``torchjd``, and the options of the aggregator.

    Raises:
        ImportError: If TorchJD is not installed.
        ValueError: If there is no such aggregator or option, or an option is missing or of the wrong kind.
    """
    check_packages(TORCHJD, f"{PLACE}: {{{TORCHJD}: …}}")
    options = dict(given)
    name = options.pop(TORCHJD)
    kind = f"{PLACE}: {TORCHJD}: aggregator"
    if not isinstance(name, str):
        raise ValueError(f"{kind}: expected a name, found {describe_value(name)}.")
    if hasattr(_aggregators().get(name), "reset"):
        raise ValueError(
            f"{PLACE}: {TORCHJD}: {name} has a state, which checkpoints would not have; take another one."
        )
    if name not in (allowed := gradient_method_names()):
        raise ValueError(f"{PLACE}: {unknown_name_message('aggregator of TorchJD', name, allowed)}")
    method = GradientMethod(name, options)
    parameters = {item.name: item for item in _arguments(_aggregators()[name]) if _takes_values(item)}
    for option, value in options.items():
        check_option(method.name, option, list(parameters))
        if not isinstance(value, (int, float, str)):
            raise ValueError(
                f"{PLACE}: {method.name}: {option}: expected a number or a name, found {describe_value(value)}."
            )
    for item in parameters.values():
        if item.default is inspect.Parameter.empty and item.name not in options:
            raise ValueError(f"{PLACE}: {method.name}: it needs the option {item.name!r}.")
    return method


def check_option(method: str, option: str, allowed: Sequence[str]) -> None:
    """Raise if a method of ``loss_balancing`` does not have an option.

    Args:
        method: Name of the method.
        option: Name of the option.
        allowed: Names of the options that it has.

    Raises:
        ValueError: If so. The message has the closest match.
    """
    if option not in allowed:
        message = (
            unknown_name_message("option", option, allowed) if allowed else f"option {option!r}: it has no options."
        )
        raise ValueError(f"{PLACE}: {method}: {message}")


def project(vectors: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Project combinations of gradients onto those that have no negative scalar product with any gradient.

    It takes the place of TorchJD's ``QuadprogProjector``, which needs packages under the GPL: the quadratic program of
    that class is a problem of least squares that are not negative.

    Args:
        vectors: Weights of the gradients in each combination (…, num_tasks).
        products: Scalar products of the gradients (num_tasks, num_tasks).

    Returns:
        Weights of the gradients in the projections (…, num_tasks).
    """
    matrix = products.cpu().double().numpy()
    matrix = matrix / max(np.trace(matrix), np.finfo(np.float64).tiny) + _REGULARIZATION * np.eye(len(matrix))
    root = np.linalg.cholesky(matrix).T
    given = vectors.cpu().double().numpy()
    weights = np.apply_along_axis(lambda vector: vector + nnls(root, -root @ vector)[0], -1, given)
    return torch.as_tensor(weights, dtype=products.dtype, device=products.device)


def _aggregators() -> dict[str, type]:
    """Return the classes of TorchJD's aggregators by name."""
    module: ModuleType = importlib.import_module("torchjd.aggregation")
    return {
        name: value
        for name in module.__all__
        if isinstance(value := getattr(module, name), type)
        and issubclass(value, module.Aggregator)
        and not inspect.isabstract(value)
    }


def _arguments(aggregator: type) -> list[inspect.Parameter]:
    return list(inspect.signature(aggregator, eval_str=True).parameters.values())


def _takes_values(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter takes a number or a name, which a config can give."""
    annotation = parameter.annotation
    if get_origin(annotation) is Literal:
        return True
    return bool({int, float, str, bool} & set(get_args(annotation) or (annotation,)))
