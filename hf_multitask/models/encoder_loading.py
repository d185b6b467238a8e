"""Loading of encoders and tokenizers from a hub name, a folder or an installed package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import normalizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .encoder_local import missing_encoder_message
from .encoder_packages import packaged_encoder
from .encoder_sentence_folder import folder_of_encoder, read_transformer_settings
from .field_types import check_fields, describe_value
from .hub_errors import explain_file_errors
from .messages import unknown_name_message

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

PADDING_SIDES = ("right", "left")


@dataclass(frozen=True)
class TokenizerConfig:
    """Settings of a tokenizer that replace its own.

    Args:
        pad_token: Padding token, one of the tokens of the vocabulary. Decoders often have none.
        padding_side: ``"right"`` or ``"left"``: where the tokenizer pads if it is called, as in
            `MultiTaskModel.encode`. Rows of a training and of predictions are padded on the right.
    """

    pad_token: str | None = None
    padding_side: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "tokenizer.")
        if self.pad_token is not None and not self.pad_token:
            raise ValueError("tokenizer.pad_token is empty; expected a token of the vocabulary.")
        if self.padding_side is not None and self.padding_side not in PADDING_SIDES:
            raise ValueError(f"tokenizer: {unknown_name_message('padding_side', self.padding_side, PADDING_SIDES)}")


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
        path = folder_of_encoder(path)
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
        ValueError: If no config can be loaded under this name, a value in it has the wrong type, or the model needs
            code of its own.
    """
    try:
        with explain_file_errors(name_or_path, "config.json"):
            config = AutoConfig.from_pretrained(name_or_path, **{"trust_remote_code": False, **hub_kwargs})
        if type(config).__module__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME):
            raise _remote_code_refusal(name_or_path)
        return config
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise _remote_code_refusal(name_or_path) from error
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
    check_positions(max_length, max_positions(config))


def check_positions(max_length: int | None, limit: int | None) -> None:
    """Check a length against a number of positions.

    Args:
        max_length: See `check_max_length`.
        limit: Number of positions; None if there is no limit or it is not known.

    Raises:
        ValueError: If there are fewer positions.
    """
    if max_length is not None and limit is not None and max_length > limit:
        raise ValueError(
            f"max_length={max_length}: the encoder has positions for {limit} tokens. Leave it out, or set it to "
            f"{limit} or less; longer rows are read in windows."
        )


def load_tokenizer(
    name_or_path: str | Path, pad_token: str | None = None, padding_side: str | None = None, **hub_kwargs: Any
) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of an encoder, with the encoder's maximum length.

    ``model_max_length`` is set to the limit of the sentence-transformers folder, if there is one, or to the encoder's
    number of positions, if the tokenizer has no limit or a higher one. If that folder says so (``do_lower_case``),
    the tokenizer lowercases texts.

    Args:
        name_or_path: Folder or hub name of an encoder or of a saved model.
        pad_token: Padding token, if the tokenizer has none or another.
        padding_side: See `TokenizerConfig`. Defaults to the tokenizer's own.
        hub_kwargs: Passed to ``from_pretrained``, such as ``revision``.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If the model or its tokenizer cannot be loaded, the tokenizer has no fast version (only fast
            tokenizers map subwords to words) or no padding token, or ``pad_token`` is not in its vocabulary.
    """
    given = TokenizerConfig(pad_token, padding_side)
    # An argument, because the tokenizer saves no side that is set later.
    side = {} if given.padding_side is None else {"padding_side": given.padding_side}
    source = find_model(name_or_path)
    config = load_config(source, **hub_kwargs)
    try:
        with explain_file_errors(source, "tokenizer.json or tokenizer_config.json"):
            tokenizer = AutoTokenizer.from_pretrained(source, **side, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(name_or_path)!r}: expected a tokenizer next to the model (tokenizer.json), which "
            f"tokenizer.save_pretrained writes; none could be loaded. {error}"
        ) from error
    if not tokenizer.is_fast:
        raise ValueError(f"{str(name_or_path)!r}: the tokenizer {type(tokenizer).__name__} has no fast version.")
    _check_length("tokenizer_config.json: model_max_length", tokenizer.model_max_length, source)
    settings = read_transformer_settings(source, **hub_kwargs)
    _check_length("sentence_bert_config.json: max_seq_length", settings.get("max_seq_length"), source)
    limit = max_positions(config)
    for length in (limit, settings.get("max_seq_length")):
        if length is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, length)
    # For `Aligner`, which knows the tokenizer but not the encoder.
    tokenizer.encoder_positions = limit
    if settings.get("do_lower_case"):
        _lowercase(tokenizer)
    _set_pad_token(tokenizer, given.pad_token, str(name_or_path))
    return tokenizer


def _lowercase(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer lowercase texts before anything else."""
    backend = tokenizer.backend_tokenizer
    normalizer = backend.normalizer
    is_sequence = isinstance(normalizer, normalizers.Sequence)
    parts = [normalizer[i] for i in range(len(normalizer))] if is_sequence else [normalizer]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        others = [part for part in parts if part is not None]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])


def _set_pad_token(tokenizer: PreTrainedTokenizerBase, pad_token: str | None, name: str) -> None:
    """Set the padding token of a tokenizer, and raise if it has none."""
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise ValueError(
                f"{name!r}: tokenizer.pad_token: {pad_token!r} is not in the vocabulary of the tokenizer, and a new "
                f"token would have no embedding. Its special tokens: {', '.join(tokenizer.all_special_tokens)}."
            )
        tokenizer.pad_token = pad_token
    if tokenizer.pad_token_id is None:
        known = ", ".join(map(repr, tokenizer.all_special_tokens)) or "none"
        raise ValueError(
            f"{name!r}: the tokenizer has no padding token. Choose one of its tokens, usually the one that ends a "
            f"text (special tokens: {known}): `tokenizer: {{pad_token: …}}` in the config of a run, or "
            "load_tokenizer(…, pad_token=…). Padding is masked, so that predictions do not depend on it."
        )


def _remote_code_refusal(name: str) -> ValueError:
    return ValueError(
        f"{name}: the encoder needs code from its own repository (auto_map in config.json), which is not run: a saved "
        "model must load without that repository. Choose an encoder that transformers contains. In Python, the code "
        "can be imported and registered before each use, with AutoConfig.register and AutoModel.register."
    )


def _check_length(place: str, length: object, source: str) -> None:
    """Raise if a maximum length in a file of a model is not a number above 0."""
    if length is None or (isinstance(length, (int, float)) and not isinstance(length, bool) and length > 0):
        return
    raise ValueError(f"{source}: {place}: expected a whole number above 0, found {describe_value(length)}.")
