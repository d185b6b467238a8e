"""Measurement of how far layers have moved since a stage started."""

from collections.abc import Mapping, Sequence

import torch

from ..models.layer_groups import LayerGroups
from .converged import Unit

# Number of weights of a layer that are measured: enough for the norm, few enough to keep and read at no cost.
SAMPLED_WEIGHTS = 65_536


class ConvergenceMeter:
    """Measures the distance of layers from where a stage started.

    The distance is taken over a fixed sample of a layer's weights. Weights are equal on all processes, and so are the
    distances.

    Args:
        units: What is measured.
        groups: The model's groups, bound to its weights.
        origin: Sampled weights at the start of the stage, by layer; those of now if None.
    """

    def __init__(
        self, units: Sequence[Unit], groups: LayerGroups, origin: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.units = units
        self.groups = groups
        self.origin = {unit.name: self._sample(unit) for unit in units} if origin is None else dict(origin)

    def measure(self, trained: Sequence[str]) -> dict[str, float]:
        """Return the distance of each layer of which a group trains.

        Args:
            trained: Names of the groups that train.
        """
        distances = {}
        for unit in self.units:
            if not set(unit.groups).isdisjoint(trained):
                now = self._sample(unit)
                before = self.origin[unit.name].to(now.device)
                distances[unit.name] = (now.float() - before.float()).norm().item()
        return distances

    @torch.no_grad()
    def _sample(self, unit: Unit) -> torch.Tensor:
        weights = list(self.groups.parameters_of(unit.groups).values())
        # Odd, so that it shares no factor with the width of most matrices and takes weights of all columns.
        stride = max(sum(weight.numel() for weight in weights) // SAMPLED_WEIGHTS, 1) | 1
        return torch.cat([weight.detach().flatten()[::stride] for weight in weights])
