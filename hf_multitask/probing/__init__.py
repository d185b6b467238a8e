"""What can be read at each depth of an encoder, and where its weights would have to change, before any training."""

from .layer_probe import LayerProbe, TaskProbe
from .probe import probe_layers

__all__ = ["LayerProbe", "TaskProbe", "probe_layers"]
