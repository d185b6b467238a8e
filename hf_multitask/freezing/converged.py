"""Options of a stage that freezes layers which have stopped learning, from the bottom up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.field_types import check_fields
from ..models.layer_groups import EMBEDDINGS, NORM, LayerGroups, layer_in_encoder


@dataclass
class Converged:
    """Freezing of layers that have stopped learning, from the bottom up, while a stage trains.

    Args:
        aggressiveness: Share of a layer's way that may still be ahead of it when it is frozen, above 0. The way is the
            distance of the weights from where the stage started, and what is ahead is what the layer would add in the
            rest of the run at its pace of the last measurements. More freezes earlier.
        keep: Lowest share of the encoder's layers that keep training. They are the uppermost ones.
        watch: Name of an evaluation metric, without ``eval_``, or of a task, which stands for its main metric, or
            several names. If one of them gets worse after a freeze, the layers train again. Empty to watch none.
        min_delta: Change of a metric beyond which it counts as worse than in the evaluation before the freeze.
        patience: Number of evaluations after a freeze in which the metrics are watched. Layers that train again are
            left alone for twice as many.
    """

    aggressiveness: int | float = 0.4
    keep: int | float = 0.3
    watch: str | list[str] = "loss"
    min_delta: int | float = 0.01
    patience: int = 2

    def __post_init__(self) -> None:
        check_fields(self, "until: converged: ")
        if self.aggressiveness <= 0:
            raise ValueError(f"until: converged: aggressiveness must be above 0, found {self.aggressiveness}.")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"until: converged: keep must be from 0 to 1, found {self.keep}.")
        if self.min_delta < 0:
            raise ValueError(f"until: converged: min_delta must be at least 0, found {self.min_delta}.")
        if self.patience < 1:
            raise ValueError(f"until: converged: patience must be at least 1, found {self.patience}.")

    @property
    def metrics(self) -> list[str]:
        """Watched metrics as a list."""
        return [self.watch] if isinstance(self.watch, str) else self.watch

    def in_words(self) -> str:
        """Return what is decided later, as a phrase."""
        return f"layers freeze from the bottom up, at most {1 - self.keep:.0%} of them"


@dataclass(frozen=True)
class Unit:
    """Groups that freeze together: a layer, or its adapters.

    Args:
        name: Name of the layer.
        groups: Names of the groups.
        depth: Number of the encoder's layers that need no gradient once the unit is frozen.
    """

    name: str
    groups: tuple[str, ...]
    depth: int


def freezable_units(options: Converged, trained: Sequence[str], groups: LayerGroups) -> list[Unit]:
    """Return what a stage may freeze, from the bottom up.

    Args:
        options: Options of the stage.
        trained: Names of the groups that the stage trains.
        groups: The model's groups.
    """
    layers = groups.layers
    by_layer: dict[str, list[str]] = {}
    for group in groups:
        if group.name in trained and not group.is_head:
            by_layer.setdefault(layer_in_encoder(group.layer), []).append(group.name)
    trained_layers = [name for name in by_layer if name in layers]
    kept = math.ceil(options.keep * len(trained_layers))
    most = trained_layers[: len(trained_layers) - kept]
    names = list(by_layer)
    units = []
    for i, name in enumerate(names):
        if name in (EMBEDDINGS, *most) or (name == NORM and not kept):
            above = names[i + 1] if i + 1 < len(names) else NORM
            units.append(Unit(name, tuple(by_layer[name]), _depth(above, layers)))
    return units


def depth_below(trained: Sequence[str], groups: LayerGroups) -> int:
    """Return the number of layers below the lowest group that trains."""
    lowest = next((group for group in groups if group.name in trained), None)
    if lowest is not None and layer_in_encoder(lowest.layer) == EMBEDDINGS:
        return 0
    return _depth("" if lowest is None else layer_in_encoder(lowest.layer), groups.layers)


def _depth(lowest: str, layers: Sequence[str]) -> int:
    return layers.index(lowest) if lowest in layers else len(layers)
