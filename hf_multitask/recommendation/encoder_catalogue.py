"""Catalogue of the recommended encoders: names, sizes, learning rates, and availability on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig

from ..models.encoder_loading import find_model
from ..models.encoder_local import is_cached
from ..models.layer_groups import EMBEDDINGS, ENCODER, HEAD, LayerGroup, LayerGroups
from ..training.settings import learning_rates
from .language import BIOMEDICAL, FINANCE, LEGAL

SMALL = "sentence-transformers/all-MiniLM-L6-v2"
MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
STRONGEST = "sentence-transformers/all-mpnet-base-v2"
UNCASED = "bert-base-uncased"
CASED = "roberta-base"
OF_DOMAIN = {
    BIOMEDICAL: "dmis-lab/biobert-base-cased-v1.2",
    LEGAL: "nlpaueb/legal-bert-base-uncased",
    FINANCE: "ProsusAI/finbert",
}


@dataclass(frozen=True)
class EncoderSize:
    """Size of an encoder, which determines its cost.

    Args:
        name: Hub name or folder.
        layers: Number of layers.
        hidden_size: Size of the hidden states.
        intermediate_size: Size of the feed-forward layers.
        weights: Number of weights.
    """

    name: str
    layers: int
    hidden_size: int
    intermediate_size: int
    weights: int

    @property
    def cost(self) -> int:
        """Number of multiplications per subword in the layers, without those between subwords in attention."""
        return self.layers * (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size)

    @property
    def learning_rate(self) -> float:
        """Peak learning rate of the encoder."""
        return learning_rates(self.hidden_size, self.layers)[0]

    @property
    def head_learning_rate(self) -> float:
        """Peak learning rate of the heads."""
        return learning_rates(self.hidden_size, self.layers)[1]

    @classmethod
    def of(cls, name: str, config: PreTrainedConfig, weights: int) -> "EncoderSize":
        """Return the size of an encoder with the given config and number of weights."""
        hidden = config.hidden_size
        inside = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 4 * hidden)
        return cls(name, config.num_hidden_layers, hidden, inside, weights)


KNOWN = {
    size.name: size
    for size in (
        EncoderSize(SMALL, 6, 384, 1536, 22_700_000),
        EncoderSize(MULTILINGUAL, 12, 384, 1536, 117_700_000),
        EncoderSize(STRONGEST, 12, 768, 3072, 109_500_000),
        EncoderSize(UNCASED, 12, 768, 3072, 109_500_000),
        EncoderSize(CASED, 12, 768, 3072, 124_600_000),
        EncoderSize(OF_DOMAIN[BIOMEDICAL], 12, 768, 3072, 108_300_000),
        EncoderSize(OF_DOMAIN[LEGAL], 12, 768, 3072, 109_500_000),
        EncoderSize(OF_DOMAIN[FINANCE], 12, 768, 3072, 109_500_000),
    )
}


def is_on_this_machine(name: str) -> bool:
    """Return whether an encoder loads without a download: from a folder, a package or the hub's cache."""
    source = find_model(name)
    return Path(source).is_dir() or is_cached(source)


def named_groups(size: EncoderSize, tasks: Sequence[str]) -> LayerGroups:
    """Return the layer groups of a model that is not loaded. They have names, but no parameters.

    Args:
        size: Size of the encoder, one of `KNOWN`.
        tasks: Names of the tasks.
    """
    names = [EMBEDDINGS, *(f"{ENCODER}.{i}" for i in range(size.layers)), *(f"{HEAD}{task}" for task in tasks)]
    return LayerGroups(LayerGroup(name, {}) for name in names)
