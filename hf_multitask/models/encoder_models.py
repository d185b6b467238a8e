"""The models of transformers that heads can share: their building, loading and checking."""

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, MODEL_MAPPING

from .encoder_layers import evaluating
from .hub_errors import explain_encoder_errors, one_line

# Model types that tests/models/test_encoder_models.py covers.
_CHECKED = """
    albert bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small bloom camembert data2vec-text
    deberta deberta-v2 distilbert electra ernie esm eurobert flaubert gemma3_text gpt2 gpt_neox gte ibert
    jina_embeddings_v3 layoutlm llama longformer longt5 luke m2m_100 marian mbart megatron-bert mobilebert modernbert
    modernbert-decoder mpnet mt5 mvp nomic_bert opt pegasus pegasus_x plbart prophetnet qwen3 rembert roberta
    roberta-prelayernorm roc_bert roformer splinter squeezebert t5 umt5 xlm xlm-roberta xlm-roberta-xl xlnet
"""
CHECKED_TYPES = frozenset(_CHECKED.split())
# Lengths of the two texts that an encoder is probed with.
_LONG, _SHORT = 9, 4
# Largest difference of the states of a text alone and in a batch that is rounding, relative to the largest state.
_TOLERANCE = 1e-4


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Build an encoder with random weights.

    Args:
        config: Config of the encoder. Of an encoder-decoder, only the encoder is built.

    Returns:
        The encoder.
    """
    return _without_decoder(_auto_class(config).from_config(config))


def load_encoder(source: str | Path, config: PreTrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """Load an encoder. Of an encoder-decoder, only the encoder is kept.

    Args:
        source: Folder or hub name.
        config: Config of the encoder.
        kwargs: Passed to ``from_pretrained``, such as ``revision``.

    Returns:
        The encoder, in eval mode.
    """
    return _without_decoder(_auto_class(config).from_pretrained(source, config=config, **kwargs))


def is_half(config: PreTrainedConfig) -> bool:
    """Return whether the encoder is a part of a model that transformers does not load by itself, as in BART.

    Args:
        config: Config of the encoder.
    """
    return bool(getattr(config, "is_encoder_decoder", False)) and not _has_encoder_model(config)


def check_source(name: str, source: str, config: PreTrainedConfig) -> None:
    """Raise if heads cannot share an encoder. Unless its type is among `CHECKED_TYPES`, this loads it.

    Args:
        name: Name of the encoder in the message.
        source: Folder or hub name that it is loaded from.
        config: Its config.

    Raises:
        ValueError: See `check_encoder`.
    """
    check_encoder_type(name, config)
    if config.model_type not in CHECKED_TYPES:
        with explain_encoder_errors(source):
            check_encoder(name, load_encoder(source, config, dtype=torch.float32), config)


def check_encoder_type(name: str | Path, config: PreTrainedConfig) -> None:
    """Raise if the config alone shows that heads cannot share an encoder.

    Args:
        name: Name of the encoder in the message.
        config: Its config.

    Raises:
        ValueError: If transformers has no such model, or it does not read texts.
    """
    if type(config) not in MODEL_MAPPING:
        raise _refusal(name, config, "transformers has no model for it")
    # The meta device allocates no weights.
    try:
        with torch.device("meta"):
            encoder = build_encoder(config)
    except (ImportError, RuntimeError, NotImplementedError):
        return  # loading shows whether the model can be used
    if (reason := _why_no_text_encoder(encoder)) is not None:
        raise _refusal(name, config, reason)


@torch.no_grad()
def check_encoder(name: str | Path, encoder: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Raise if heads cannot share an encoder: it needs one state per token, whatever else is in the batch.

    Args:
        name: Name of the encoder in the message.
        encoder: The encoder.
        config: Config that it was loaded with.

    Raises:
        ValueError: If it does not read texts, fails on a batch, or the states of a text depend on the rest of the
            batch.
    """
    reason = _why_no_text_encoder(encoder)
    if reason is None:
        with evaluating(encoder):
            reason = _why_not_shared(encoder)
    if reason is not None:
        raise _refusal(name, config, reason)


def _auto_class(config: PreTrainedConfig) -> Any:
    return AutoModelForTextEncoding if _has_encoder_model(config) else AutoModel


def _has_encoder_model(config: PreTrainedConfig) -> bool:
    """Return whether transformers has a class for the encoder half alone, such as ``T5EncoderModel``."""
    # It sets is_encoder_decoder of its config to False, so that a saved model shows it only by its type.
    return str(MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)).endswith("EncoderModel")


def _without_decoder(model: PreTrainedModel) -> PreTrainedModel:
    return model.get_encoder() if is_half(model.config) else model


def _why_no_text_encoder(encoder: object) -> str | None:
    """Return the reason why a model does not turn tokens into states, None if it may."""
    if not isinstance(encoder, PreTrainedModel):
        return "its encoder is not a model of its own"
    parameters = inspect.signature(encoder.forward).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if encoder.main_input_name != "input_ids" or "input_ids" not in parameters:
        return f"it reads {encoder.main_input_name}, not the tokens of a text"
    if "attention_mask" not in parameters and not takes_any:
        return "it has no attention mask, so that the states of a text depend on the padding of its batch"
    for key in ("hidden_size", "num_hidden_layers"):
        if not isinstance(getattr(encoder.config, key, None), int):
            return f"its config has no {key}"
    return None


def _why_not_shared(encoder: PreTrainedModel) -> str | None:
    """Return the reason why heads cannot read the states of an encoder, None if they can."""
    device = next(encoder.parameters()).device
    if device.type == "meta":
        return None  # its weights are on a disk and come one layer at a time
    ids = torch.arange(2 * _LONG, device=device).reshape(2, _LONG) % min(
        getattr(encoder.config, "vocab_size", 1000), 1000
    )
    mask = torch.ones_like(ids)
    mask[1, _SHORT:] = 0
    padded = ids.masked_fill(mask == 0, getattr(encoder.config, "pad_token_id", None) or 0)
    try:
        with torch.random.fork_rng(devices=[]):
            outputs = [
                encoder(input_ids=padded, attention_mask=mask),
                encoder(input_ids=ids[1:, :_SHORT], attention_mask=mask[1:, :_SHORT]),
            ]
    except Exception as error:  # each architecture fails in its own way
        return f"it fails on a batch of token ids ({one_line(error)})"
    if any("last_hidden_state" not in output for output in outputs):
        return "it returns no states of the tokens (last_hidden_state)"
    together, alone = (output["last_hidden_state"] for output in outputs)
    size = encoder.config.hidden_size
    if together.shape != (2, _LONG, size):
        return f"its states have the shape {tuple(together.shape)}, expected one per token, {(2, _LONG, size)}"
    difference = (together[1, :_SHORT] - alone[0]).abs().max() / alone.abs().max()
    # Not ">": a NaN is refused too.
    if not difference <= max(_TOLERANCE, 100 * torch.finfo(alone.dtype).eps):
        return f"the states of a text depend on the rest of its batch (they differ by {float(difference):.1g})"
    return None


def _refusal(name: str | Path, config: PreTrainedConfig, reason: str) -> ValueError:
    return ValueError(
        f"{name}: an encoder of type {config.model_type!r} cannot be used: {reason}. Choose an encoder such as BERT, "
        "MPNet, RoBERTa, DeBERTa or ModernBERT."
    )
