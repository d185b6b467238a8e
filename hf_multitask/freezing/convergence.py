"""Decision which layers of a stage have stopped learning: a pure function of what the trainer has recorded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..models.layer_groups import layer_ranges
from ..runtime.training_history import Evaluation, LogEntry
from .converged import Converged, Unit
from .stage import greater_is_better

DISTANCES_KEY = "layer_distances"
CACHES_KEY = "frozen_layers_are_cached"
# Number of measurements in a run, and of those over which the pace is taken.
MEASUREMENTS = 40
WINDOW = 4
# Cost of a layer's backward pass, in forward passes through it.
BACKWARD = 2


@dataclass(frozen=True)
class Measurement:
    """Distance of each layer that trains from where its stage started.

    Args:
        step: Optimizer steps so far.
        distances: Distances by layer.
        caches: Whether the states of frozen layers are cached.
    """

    step: int
    distances: dict[str, float]
    caches: bool


@dataclass(frozen=True)
class Span:
    """Length of a run, for what is ahead in it.

    Args:
        steps_per_epoch: Optimizer steps per epoch.
        max_steps: Optimizer steps of the run.
    """

    steps_per_epoch: int
    max_steps: int

    @property
    def interval(self) -> int:
        """Number of steps from one measurement to the next."""
        return max(1, self.max_steps // MEASUREMENTS)


@dataclass
class _Freeze:
    """A freeze that is watched: the number of units that were frozen before it, and the evaluation before it."""

    units_before: int
    reference: Evaluation | None
    evaluations: int = 0


def read_measurements(entries: Sequence[LogEntry]) -> list[Measurement]:
    """Return the measurements that a trainer has recorded, in order."""
    return [
        Measurement(entry["step"], dict(entry[DISTANCES_KEY]), entry[CACHES_KEY])
        for entry in entries
        if DISTANCES_KEY in entry
    ]


def pays(depth: int, depth_now: int, epochs: float, caches: bool) -> bool:
    """Return whether a freeze saves more passes through a layer than it costs.

    A frozen layer saves its backward pass, and its forward pass too if its states are cached. The cache costs one pass
    through all layers below the boundary.

    Args:
        depth: Number of frozen layers after the freeze.
        depth_now: Number of frozen layers before it.
        epochs: Epochs until the stage ends.
        caches: Whether states are cached.
    """
    if not caches:
        return epochs > 0
    return (depth - depth_now) * (BACKWARD + 1) * epochs >= depth and epochs > 0


class Convergence:
    """State of a stage that freezes its layers from the bottom up.

    Args:
        options: Options of the stage.
        units: What may freeze, from the bottom up.
        depth: Number of layers that are frozen when the stage starts.
        span: Length of the run.
    """

    def __init__(self, options: Converged, units: Sequence[Unit], depth: int, span: Span) -> None:
        self.options = options
        self.units = units
        self.span = span
        self.num_frozen = 0
        self._depth_at_start = depth
        self._paths: dict[str, list[tuple[int, float]]] = {}
        self._watched: list[_Freeze] = []
        self._evaluations_to_rest = 0

    @property
    def frozen_groups(self) -> set[str]:
        """Names of the groups that are frozen now."""
        return {name for unit in self.units[: self.num_frozen] for name in unit.groups}

    def measure(self, measurement: Measurement, end: int, reference: Evaluation | None) -> str | None:
        """Freeze what has stopped learning.

        Args:
            measurement: The distances now.
            end: Last step of the stage.
            reference: The last evaluation, that later ones are compared with.

        Returns:
            The reason if something freezes, else None.
        """
        for name, distance in measurement.distances.items():
            self._paths.setdefault(name, []).append((measurement.step, distance))
        if self._evaluations_to_rest:
            return None
        ahead = {}
        for unit in self.units[self.num_frozen :]:
            share = self._share_ahead(unit.name)
            if share is None or share > self.options.aggressiveness:
                break
            ahead[unit.name] = share
        if not ahead:
            return None
        depth_now = self.units[self.num_frozen - 1].depth if self.num_frozen else self._depth_at_start
        number = self.num_frozen + len(ahead)
        epochs = (end - measurement.step) / self.span.steps_per_epoch
        if not pays(self.units[number - 1].depth, depth_now, epochs, measurement.caches):
            return None
        self._watched.append(_Freeze(self.num_frozen, reference))
        self.num_frozen = number
        verb, most = "has" if len(ahead) == 1 else "have", max(ahead.values())
        return f"{_listed(ahead)} {verb} stopped learning: the rest of the run would add {most:.0%} to the distance"

    def see(self, evaluation: Evaluation) -> str | None:
        """Let layers train again if a watched metric has become worse since they were frozen.

        Returns:
            The reason if layers train again, else None.
        """
        self._evaluations_to_rest = max(self._evaluations_to_rest - 1, 0)
        for freeze in self._watched:
            freeze.evaluations += 1
            if (worse := self._worse(freeze, evaluation)) is not None:
                names = [unit.name for unit in self.units[freeze.units_before : self.num_frozen]]
                self._thaw(freeze.units_before)
                return f"{worse} got worse after the freeze: {_listed(names)} train{'s' * (len(names) == 1)} again"
        self._watched = [freeze for freeze in self._watched if freeze.evaluations < self.options.patience]
        return None

    def _thaw(self, number: int) -> None:
        self.num_frozen = number
        self._watched = []
        self._evaluations_to_rest = 2 * self.options.patience
        for unit in self.units[number:]:
            self._paths.pop(unit.name, None)

    def _worse(self, freeze: _Freeze, evaluation: Evaluation) -> str | None:
        if freeze.reference is None:
            return None
        for metric in self.options.metrics:
            sign = 1.0 if greater_is_better(metric) else -1.0
            gain = sign * (evaluation.metrics[metric] - freeze.reference.metrics[metric])
            if not gain >= -self.options.min_delta:  # NaN is worse
                return metric
        return None

    def _share_ahead(self, name: str) -> float | None:
        """Return how far a layer would still go in the rest of the run, by its distance; None if unknown."""
        path = self._paths.get(name, [])
        if len(path) <= WINDOW:
            return None
        (before, start), (step, distance) = path[-1 - WINDOW], path[-1]
        pace = max(distance - start, 0.0) / (step - before)
        to_come = pace * (self.span.max_steps - step)
        return to_come / distance if distance > 0 else 0.0


def _listed(names: Iterable[str]) -> str:
    return " and ".join(layer_ranges(names))
