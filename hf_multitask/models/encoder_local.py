"""Encoders that load without a download: those of installed packages and of the hub's cache."""

import json
from pathlib import Path

from huggingface_hub import constants, is_offline_mode, try_to_load_from_cache
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from .configuration_multitask import MultiTaskConfig
from .encoder_packages import PACKAGED_ENCODERS, packaged_encoder
from .messages import closest_name

_WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME)
_CACHE_PREFIX = "models--"
_NAMES_SHOWN = 10


def is_cached(name: str) -> bool:
    """Return whether config and weights of a hub name are in the hub's cache."""
    return _cached_file(name, CONFIG_NAME) is not None and any(_cached_file(name, file) for file in _WEIGHTS)


def local_encoders() -> list[str]:
    """Return the hub names of the encoders that load without a download, those of packages first."""
    packaged = [name for name in PACKAGED_ENCODERS if packaged_encoder(name) is not None]
    folders = sorted(Path(constants.HF_HUB_CACHE).glob(f"{_CACHE_PREFIX}*"))
    cached = [folder.name.removeprefix(_CACHE_PREFIX).replace("--", "/") for folder in folders]
    return [*packaged, *(name for name in cached if name not in packaged and is_cached(name) and _is_encoder(name))]


def missing_encoder_message(name: str, error: BaseException) -> str:
    """Build the message for an encoder or a model that cannot be found.

    Args:
        name: Its hub name.
        error: What the hub's client says.

    Returns:
        The message: whether the hub is off, the closest name and the names that load on this machine.
    """
    here = local_encoders()
    close = closest_name(name, here)
    hint = f" Did you mean {close!r}?" if close else ""
    if name in PACKAGED_ENCODERS:
        hint = " A package brings it: pip install 'hf-multitask[quickstart]'."
    found = (
        f"Encoders on this machine: {', '.join(here[:_NAMES_SHOWN])}." if here else "No encoder is on this machine."
    )
    if is_offline_mode():
        return (
            f"{name!r}: no such folder and no such model in the hub's cache, and the hub is off (HF_HUB_OFFLINE=1)."
            f"{hint} {found}"
        )
    # Of several lines; the last ones say what a private repository needs.
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name!r}: expected a folder or a hub name that can be reached. {reason}{hint} {found}"


def _cached_file(name: str, file: str) -> str | None:
    found = try_to_load_from_cache(name, file)
    return found if isinstance(found, str) else None


def _is_encoder(name: str) -> bool:
    """Return whether a model of the cache is neither a multi-task model nor one that cannot be read."""
    try:
        config = json.loads(Path(_cached_file(name, CONFIG_NAME) or "").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") != MultiTaskConfig.model_type
