"""Pooling of token states to one vector per text, and its settings in sentence-transformers folders."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
from transformers.utils import cached_file

from .field_types import describe_value
from .hub_errors import explain_file_errors
from .messages import unknown_name_message

POOLING_MODES = ("mean", "cls", "max")

# Names of the modes in sentence-transformers, after the prefix pooling_mode_.
_FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}


class SentencePooling(NamedTuple):
    """Pooling of an encoder: the mode, and whether vectors are scaled to length 1."""

    mode: str = "mean"
    normalize: bool = False


def pool(states: torch.Tensor, attention_mask: torch.Tensor | None, mode: str) -> torch.Tensor:
    """Reduce the token states of each text to one vector.

    Args:
        states: Token states (batch, seq_len, hidden).
        attention_mask: 1 for tokens, 0 for padding (batch, seq_len); all positions are tokens if None.
        mode: ``"mean"``, ``"cls"`` (the first token) or ``"max"``.

    Returns:
        Vectors (batch, hidden).
    """
    if mode == "cls":
        return states[:, 0]
    if attention_mask is None:
        attention_mask = states.new_ones(states.shape[:2], dtype=torch.long)
    mask = attention_mask.unsqueeze(-1)
    if mode == "max":
        return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).max(dim=1).values
    mask = mask.to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)


def mean_of_windows(
    logits: torch.Tensor, attention_mask: torch.Tensor | None, row_windows: torch.Tensor
) -> torch.Tensor:
    """Reduce the logits of the windows of each text to their mean, weighted by the number of tokens per window.

    Args:
        logits: Logits of the windows (num_windows, num_labels).
        attention_mask: 1 for tokens, 0 for padding (num_windows, seq_len); all windows have equal weight if None.
        row_windows: Mask of the windows of each text (batch, num_windows).

    Returns:
        Logits of the texts (batch, num_labels).
    """
    weights = row_windows.to(logits.dtype)
    if attention_mask is not None:
        weights = weights * attention_mask.sum(dim=1).to(logits.dtype)
    return (weights @ logits) / weights.sum(dim=1, keepdim=True)


def read_json_file(name_or_path: str, filename: str, **hub_kwargs: Any) -> Any:
    """Read a JSON file of a model.

    Args:
        name_or_path: Hub name or folder of the model.
        filename: Name of the file, such as ``"modules.json"``.
        hub_kwargs: Passed to the hub's client, such as ``revision``.

    Returns:
        The content; None if the file does not exist, or if the hub is out of reach and the file is not in the cache.

    Raises:
        ValueError: If the file is not JSON.
    """
    path = cached_file(
        name_or_path,
        filename,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_kwargs,
    )
    if path is None:
        return None
    with explain_file_errors(name_or_path, filename):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def _is_missing(name_or_path: str, filename: str, **hub_kwargs: Any) -> bool:
    """Return whether a file that could not be read is known not to exist."""
    if Path(name_or_path).is_dir():
        return True
    location = {key: hub_kwargs[key] for key in ("cache_dir", "revision") if key in hub_kwargs}
    return try_to_load_from_cache(name_or_path, filename, **location) is _CACHED_NO_EXIST


def read_sentence_pooling(name_or_path: str, **hub_kwargs: Any) -> SentencePooling:
    """Read the pooling of a sentence-transformers folder; mean for any other encoder, as in sentence-transformers.

    Args:
        name_or_path: Hub name or folder.
        hub_kwargs: Passed to the hub's client.

    Returns:
        The pooling.

    Raises:
        ValueError: If the folder has a module or a pooling mode that is not supported, or the hub is out of reach and
            its cache does not have the settings.
    """
    modules = read_json_file(name_or_path, "modules.json", **hub_kwargs)
    if modules is None and not _is_missing(name_or_path, "modules.json", **hub_kwargs):
        raise ValueError(
            f"{name_or_path}: the hub is out of reach and its cache does not have the pooling of this encoder "
            "(modules.json). Give `pooling` to choose."
        )
    if modules is None:
        return SentencePooling()
    mode, normalize = "mean", False
    for module in _checked_modules(modules, name_or_path):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            settings = read_json_file(name_or_path, f"{module['path']}/config.json", **hub_kwargs)
            if not isinstance(settings, dict):
                found = "no such file" if settings is None else describe_value(settings)
                raise ValueError(
                    f"{name_or_path}: expected the pooling in {module['path']}/config.json, which modules.json names, "
                    f"found {found}. Copy or download it again, or give `pooling` to choose."
                )
            mode = _pooling_mode(settings, name_or_path)
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ValueError(
                f"{name_or_path}: modules.json asks for the module {kind!r}; Transformer, Pooling and Normalize are "
                "supported. Give `pooling` to use only the encoder."
            )
    return SentencePooling(mode, normalize)


def write_sentence_pooling(
    folder: str | Path, pooling: SentencePooling, hidden_size: int, max_seq_length: int | None
) -> None:
    """Write the files that turn an encoder's folder into a sentence-transformers folder.

    They have the form that all versions of sentence-transformers read.

    Args:
        folder: Folder of the encoder.
        pooling: Pooling of the encoder.
        hidden_size: Hidden size of the encoder.
        max_seq_length: Maximum number of subwords per text. Defaults to the encoder's own limit.
    """
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * pooling.normalize)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    modes = {f"pooling_mode_{_FLAGS[mode]}": mode == pooling.mode for mode in POOLING_MODES}
    versions = {"transformers": transformers.__version__, "pytorch": torch.__version__}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": hidden_size, **modes},
        "sentence_bert_config.json": {"max_seq_length": max_seq_length, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": versions, "similarity_fn_name": "cosine"},
    }
    for path, _ in kinds:
        (Path(folder) / path).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (Path(folder) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _checked_modules(modules: Any, source: str) -> list[dict[str, str]]:
    """Return the modules of a sentence-transformers folder, each with its type and path."""
    are_modules = isinstance(modules, list) and all(
        isinstance(module, dict) and all(isinstance(module.get(key), str) for key in ("type", "path"))
        for module in modules
    )
    if not are_modules:
        raise ValueError(
            f"{source}: expected a list of modules with `type` and `path` in modules.json, found "
            f"{describe_value(modules)}. Copy or download it again, or give `pooling` to choose."
        )
    return modules


def _pooling_mode(settings: dict[str, Any], source: str) -> str:
    """Return the mode of a pooling config, in the current form of sentence-transformers or the older with flags."""
    modes = settings.get("pooling_mode")
    if modes is None:
        prefix, suffix = "pooling_mode_", "_token"
        flags = [key for key, value in settings.items() if key.startswith(prefix) and value is True]
        modes = [flag.removeprefix(prefix).removesuffix("s").removesuffix(suffix) for flag in flags]
    names = list(modes) if isinstance(modes, (list, tuple)) else [modes]
    if len(names) != 1 or names[0] not in POOLING_MODES:
        found = "+".join(map(str, names)) or "none"
        raise ValueError(
            f"{source}: {unknown_name_message('pooling mode', found, POOLING_MODES)} Give `pooling` to choose one."
        )
    return names[0]
