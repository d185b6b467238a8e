"""Loading of encoders and tokenizers from a hub name, a folder or an installed package."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from .encoder_local import missing_encoder_message
from .encoder_packages import packaged_encoder
from .encoder_pooling import read_json_file
from .field_types import describe_value
from .hub_errors import explain_file_errors

# Encoders that number positions from the id of the padding token plus 1. The first rows of their table are not used.
NUMBERED_AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
# Subtracted if the tokenizer has no limit.
RESERVED_POSITIONS = 2


def find_model(name_or_path: str | Path) -> str:
    """Resolve the folder or hub name that an encoder or a saved model is loaded from.

    Args:
        name_or_path: Folder, hub name, or the hub name of an encoder that an installed package contains.

    Returns:
        The folder, or the hub name if there is no folder.

    Raises:
        ValueError: If it is a folder without a ``config.json``, or looks like a folder but does not exist.
    """
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
            raise ValueError(f"{name!r}: the folder has no config.json, found {found}.")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ValueError(f"{name!r}: the folder does not exist.")
    packaged = packaged_encoder(name)
    return name if packaged is None else str(packaged)


def load_config(name_or_path: str, **hub_kwargs: Any) -> PreTrainedConfig:
    """Load the config of an encoder or of a saved model.

    Args:
        name_or_path: Folder or hub name, as `find_model` returns it.
        hub_kwargs: Passed to ``AutoConfig.from_pretrained``.

    Returns:
        The config.

    Raises:
        ValueError: If no config can be loaded under this name, or a value in it has the wrong type.
    """
    try:
        with explain_file_errors(name_or_path, "config.json"):
            return AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    except ValueError as error:
        if name_or_path in str(error):
            raise
        raise ValueError(f"{name_or_path}: config.json: {' '.join(str(error).split())}") from error
    except OSError as error:
        if Path(name_or_path).is_dir():
            raise ValueError(f"{name_or_path}: config.json cannot be read. {error}") from error
        raise ValueError(missing_encoder_message(name_or_path, error)) from error


def max_positions(config: PreTrainedConfig) -> int | None:
    """Return the number of tokens that an encoder has positions for; None if any number works.

    Args:
        config: Config of an encoder, or of a model with its ``encoder_config``.
    """
    encoder = getattr(config, "encoder_config", config)
    positions = getattr(encoder, "max_position_embeddings", None)
    # DeBERTa with relative positions only has no table of them.
    if not positions or positions < 0 or not getattr(encoder, "position_biased_input", True):
        return None
    if encoder.model_type in NUMBERED_AFTER_PADDING:
        positions -= (encoder.pad_token_id or 0) + 1
    return positions


def check_max_length(max_length: int | None, config: PreTrainedConfig) -> None:
    """Check that an encoder has positions for rows of a length.

    Args:
        max_length: Maximum number of tokens of a row or window; None for the tokenizer's.
        config: See `max_positions`.

    Raises:
        ValueError: If it has not.
    """
    limit = max_positions(config)
    if max_length is not None and limit is not None and max_length > limit:
        raise ValueError(
            f"max_length={max_length}: the encoder has positions for {limit} tokens. Leave it out, or set it to "
            f"{limit} or less; longer rows are read in windows."
        )


def load_tokenizer(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of an encoder, with the encoder's maximum length.

    ``model_max_length`` is set to the limit of the sentence-transformers folder, if there is one, or to the encoder's
    number of positions, if the tokenizer has no limit or a higher one.

    Args:
        name_or_path: Folder or hub name of an encoder or of a saved model.
        hub_kwargs: Passed to ``from_pretrained``, such as ``revision``.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If the model or its tokenizer cannot be loaded, or the tokenizer has no fast version. Only fast
            tokenizers map subwords to words.
    """
    source = find_model(name_or_path)
    config = load_config(source, **hub_kwargs)
    try:
        with explain_file_errors(source, "tokenizer.json or tokenizer_config.json"):
            tokenizer = AutoTokenizer.from_pretrained(source, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(name_or_path)!r}: expected a tokenizer next to the model (tokenizer.json), which "
            f"tokenizer.save_pretrained writes; none could be loaded. {error}"
        ) from error
    if not tokenizer.is_fast:
        raise ValueError(f"{str(name_or_path)!r}: the tokenizer {type(tokenizer).__name__} has no fast version.")
    _check_length("tokenizer_config.json: model_max_length", tokenizer.model_max_length, source)
    settings = read_json_file(source, "sentence_bert_config.json", **hub_kwargs) or {}
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: sentence_bert_config.json: expected a mapping, found {describe_value(settings)}.")
    _check_length("sentence_bert_config.json: max_seq_length", settings.get("max_seq_length"), source)
    positions = getattr(getattr(config, "encoder_config", config), "max_position_embeddings", None)
    if positions and tokenizer.model_max_length > positions:
        tokenizer.model_max_length = positions - RESERVED_POSITIONS
    limit = max_positions(config)
    if limit is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    if settings.get("max_seq_length"):
        tokenizer.model_max_length = min(tokenizer.model_max_length, settings["max_seq_length"])
    return tokenizer


def _check_length(place: str, length: object, source: str) -> None:
    """Raise if a maximum length in a file of a model is not a number above 0."""
    if length is None or (isinstance(length, (int, float)) and not isinstance(length, bool) and length > 0):
        return
    raise ValueError(f"{source}: {place}: expected a whole number above 0, found {describe_value(length)}.")
