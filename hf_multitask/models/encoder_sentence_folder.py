"""Settings of sentence embeddings, as folders of sentence-transformers keep them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
from transformers.utils import cached_file

from .encoder_pooling import POOLING_MODES
from .field_types import describe_value
from .hub_errors import explain_file_errors
from .messages import unknown_name_message

MODULES_NAME = "modules.json"
MODEL_SETTINGS_NAME = "config_sentence_transformers.json"
TRANSFORMER, POOLING, NORMALIZE = "Transformer", "Pooling", "Normalize"

# Flags of the pooling modes in the folders of older versions.
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# Files of the settings of a Transformer module; the others are those of older versions.
_TRANSFORMER_SETTINGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
# Settings of a Transformer module that change its vectors, with their values for a plain encoder.
_PLAIN: dict[str, Any] = {"transformer_task": "feature-extraction", "query_expansion": None, "processing_kwargs": {}}


@dataclass(frozen=True)
class SentenceSettings:
    """How an encoder turns a text into a vector.

    Args:
        pooling: Pooling of the token states; see `encoder_pooling.pool`.
        normalize: Whether vectors are scaled to length 1.
        prompts: Texts that go before a sentence, by name.
        default_prompt_name: Name of the prompt of sentences without another one.
        include_prompt: Whether the tokens of the prompt count in the pooling.
        truncate_dim: Number of dimensions that are kept; all if None.
    """

    pooling: str = "mean"
    normalize: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None


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


def folder_of_encoder(folder: Path) -> Path:
    """Return the folder of the encoder in a sentence-transformers folder: ``0_Transformer`` in older ones.

    Args:
        folder: Any folder.

    Returns:
        The folder of the module of the encoder, or the same folder if it has a ``config.json`` or no modules.

    Raises:
        ValueError: If its ``modules.json`` cannot be used.
    """
    if (folder / "config.json").is_file():
        return folder
    modules = read_json_file(str(folder), MODULES_NAME)
    for module in [] if modules is None else _checked_modules(modules, str(folder)):
        if _kind(module) == TRANSFORMER and (folder / module["path"] / "config.json").is_file():
            return folder / module["path"]
    return folder


def read_sentence_settings(name_or_path: str, **hub_kwargs: Any) -> SentenceSettings:
    """Read the settings of a sentence-transformers folder; mean pooling for any other encoder, as there.

    Args:
        name_or_path: Hub name, or folder of the encoder.
        hub_kwargs: Passed to the hub's client.

    Returns:
        The settings.

    Raises:
        ValueError: If the folder has a module, a pooling mode or another setting that is not supported, or the hub is
            out of reach and its cache does not have the settings.
    """
    name_or_path = _root(name_or_path)
    modules = read_json_file(name_or_path, MODULES_NAME, **hub_kwargs)
    if modules is None and not _is_missing(name_or_path, MODULES_NAME, **hub_kwargs):
        raise ValueError(
            f"{name_or_path}: the hub is out of reach and its cache does not have the pooling of this encoder "
            "(modules.json). Give `pooling` to choose."
        )
    if modules is None:
        return SentenceSettings()
    pooling: Mapping[str, Any] = {}
    kinds = []
    for module in _checked_modules(modules, name_or_path):
        kind = _kind(module)
        kinds.append(kind)
        if kind == POOLING:
            pooling = _pooling_settings(module["path"], name_or_path, **hub_kwargs)
        elif kind == NORMALIZE:
            _check_normalize(module["path"], name_or_path, **hub_kwargs)
        elif kind != TRANSFORMER:
            raise ValueError(
                f"{name_or_path}: modules.json asks for the module {kind!r}; Transformer, Pooling and Normalize are "
                "supported. Give `pooling` to use only the encoder."
            )
    if kinds not in ([TRANSFORMER, POOLING], [TRANSFORMER, POOLING, NORMALIZE]):
        raise ValueError(
            f"{name_or_path}: expected the modules Transformer, Pooling and, if vectors are scaled to length 1, "
            f"Normalize in modules.json, found {', '.join(kinds) or 'none'}. Give `pooling` to use only the encoder."
        )
    _check_transformer(name_or_path, **hub_kwargs)
    return SentenceSettings(normalize=NORMALIZE in kinds, **pooling, **_model_settings(name_or_path, **hub_kwargs))


def read_transformer_settings(name_or_path: str, **hub_kwargs: Any) -> dict[str, Any]:
    """Read the settings of the encoder in a sentence-transformers folder, such as ``max_seq_length``.

    Args:
        name_or_path: Hub name or folder of the encoder.
        hub_kwargs: Passed to the hub's client.

    Returns:
        The settings; empty if there are none.

    Raises:
        ValueError: If the file does not contain a mapping, or ``do_lower_case`` is not a truth value.
    """
    # Other encoders have none of these files, and each costs a request to the hub.
    has_modules = read_json_file(_root(name_or_path), MODULES_NAME, **hub_kwargs) is not None
    for name in _TRANSFORMER_SETTINGS if has_modules else _TRANSFORMER_SETTINGS[:1]:
        settings = read_json_file(name_or_path, name, **hub_kwargs)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise ValueError(f"{name_or_path}: {name}: expected a mapping, found {describe_value(settings)}.")
        if not isinstance(settings.get("do_lower_case", False), bool):
            raise ValueError(
                f"{name_or_path}: {name}: do_lower_case: expected true or false, found "
                f"{describe_value(settings['do_lower_case'])}."
            )
        return settings
    return {}


def write_sentence_settings(
    folder: str | Path,
    settings: SentenceSettings,
    hidden_size: int,
    max_seq_length: int | None,
    model_args: Mapping[str, Any],
) -> None:
    """Write the files that turn an encoder's folder into a sentence-transformers folder.

    They have the form that all versions of sentence-transformers read.

    Args:
        folder: Folder of the encoder.
        settings: Settings of the encoder.
        hidden_size: Hidden size of the encoder.
        max_seq_length: Maximum number of subwords per text. Defaults to the encoder's own limit.
        model_args: Arguments that the encoder is loaded with.
    """
    kinds = [("", TRANSFORMER), ("1_Pooling", POOLING), *([("2_Normalize", NORMALIZE)] * settings.normalize)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    modes = {flag: mode == settings.pooling for flag, mode in _FLAGS.items()}
    model: dict[str, Any] = {
        "__version__": {"transformers": transformers.__version__, "pytorch": torch.__version__},
        "prompts": settings.prompts,
        "default_prompt_name": settings.default_prompt_name,
        "similarity_fn_name": "cosine",
    }
    if settings.truncate_dim is not None:
        model["truncate_dim"] = settings.truncate_dim
    files = {
        MODULES_NAME: modules,
        "1_Pooling/config.json": {
            "word_embedding_dimension": hidden_size,
            **modes,
            "include_prompt": settings.include_prompt,
        },
        "sentence_bert_config.json": {
            "max_seq_length": max_seq_length,
            "do_lower_case": False,
            **({"model_args": dict(model_args)} if model_args else {}),
        },
        MODEL_SETTINGS_NAME: model,
    }
    for path, _ in kinds:
        (Path(folder) / path).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (Path(folder) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _root(name_or_path: str) -> str:
    """Return the sentence-transformers folder that an encoder's folder is a module of."""
    folder = Path(name_or_path)
    if (folder / MODULES_NAME).is_file() or not (folder.parent / MODULES_NAME).is_file():
        return name_or_path
    return str(folder.parent) if folder_of_encoder(folder.parent) == folder else name_or_path


def _is_missing(name_or_path: str, filename: str, **hub_kwargs: Any) -> bool:
    """Return whether a file that could not be read is known not to exist."""
    if Path(name_or_path).is_dir():
        return True
    location = {key: hub_kwargs[key] for key in ("cache_dir", "revision") if key in hub_kwargs}
    return try_to_load_from_cache(name_or_path, filename, **location) is _CACHED_NO_EXIST


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


def _kind(module: Mapping[str, str]) -> str:
    """Return the name of a module's class, with its package if that is not sentence-transformers."""
    kind = module["type"]
    return kind.rsplit(".", 1)[-1] if kind.startswith("sentence_transformers.") else kind


def _pooling_settings(path: str, source: str, **hub_kwargs: Any) -> dict[str, Any]:
    settings = read_json_file(source, f"{path}/config.json", **hub_kwargs)
    if not isinstance(settings, dict):
        found = "no such file" if settings is None else describe_value(settings)
        raise ValueError(
            f"{source}: expected the pooling in {path}/config.json, which modules.json names, found {found}. Copy or "
            "download it again, or give `pooling` to choose."
        )
    include_prompt = settings.get("include_prompt", True)
    if not isinstance(include_prompt, bool):
        raise ValueError(
            f"{source}: {path}/config.json: include_prompt: expected true or false, found "
            f"{describe_value(include_prompt)}."
        )
    return {"pooling": _pooling_mode(settings, source), "include_prompt": include_prompt}


def _pooling_mode(settings: Mapping[str, Any], source: str) -> str:
    """Return the mode of a pooling config, in the current form of sentence-transformers or the older with flags."""
    modes = settings.get("pooling_mode")
    if modes is None:
        flags = [flag for flag in _FLAGS if flag in settings]
        modes = [_FLAGS[flag] for flag in flags if settings[flag] is True] or (["mean"] if flags else [])
    names = list(modes) if isinstance(modes, (list, tuple)) else [modes]
    if len(names) != 1 or names[0] not in POOLING_MODES:
        found = "+".join(map(str, names)) or "none"
        raise ValueError(
            f"{source}: {unknown_name_message('pooling mode', found, POOLING_MODES)} Give `pooling` to choose one."
        )
    return names[0]


def _check_normalize(path: str, source: str, **hub_kwargs: Any) -> None:
    """Raise if a Normalize module scales anything but the pooled vectors."""
    settings = read_json_file(source, f"{path}/config.json", **hub_kwargs) or {}
    names = [settings.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")]
    if set(names) != {"sentence_embedding"}:
        raise ValueError(
            f"{source}: {path}/config.json scales {names[0]!r}, expected 'sentence_embedding'. Give `pooling` to use "
            "only the encoder."
        )


def _check_transformer(source: str, **hub_kwargs: Any) -> None:
    """Raise if the encoder of a sentence-transformers folder is used in another way than by its token states."""
    encoder = str(folder_of_encoder(Path(source))) if Path(source).is_dir() else source
    settings = read_transformer_settings(encoder, **hub_kwargs)
    for key, plain in _PLAIN.items():
        if settings.get(key, plain) not in (plain, None):
            raise ValueError(
                f"{source}: sentence_bert_config.json asks for {key} {describe_value(settings[key])}, which is not "
                "supported. Give `pooling` to use only the encoder."
            )


def _model_settings(source: str, **hub_kwargs: Any) -> dict[str, Any]:
    """Return the prompts and the number of dimensions of a sentence-transformers folder."""
    settings = read_json_file(source, MODEL_SETTINGS_NAME, **hub_kwargs) or {}
    place = f"{source}: {MODEL_SETTINGS_NAME}"
    if not isinstance(settings, dict):
        raise ValueError(f"{place}: expected a mapping, found {describe_value(settings)}.")
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ValueError(f"{place}: prompts: expected a mapping of names to texts, found {describe_value(prompts)}.")
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ValueError(f"{place}: default_prompt_name: {unknown_name_message('prompt', default, prompts)}")
    size = settings.get("truncate_dim")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"{place}: truncate_dim: expected a whole number above 0, found {describe_value(size)}.")
    return {"prompts": prompts, "default_prompt_name": default, "truncate_dim": size}
