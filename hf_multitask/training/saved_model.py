"""A model and its tokenizer: vocabulary, special tokens in the config, and the code that is saved with it."""

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskConfig, MultiTaskModel
from ..models.encoder_vocabulary import check_padding_token, check_vocabulary


def check_tokenizer(tokenizer: object, config: MultiTaskConfig) -> None:
    """Raise if a model has no embeddings for some tokens.

    Args:
        tokenizer: Tokenizer of the model, if it has one.
        config: Config of the model.

    Raises:
        ValueError: If so.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        check_vocabulary(tokenizer, config)


def save_special_tokens(model: MultiTaskModel, tokenizer: object) -> None:
    """Save the ids of the tokenizer's special tokens with the model, which the Trainer does too, with a warning.

    Args:
        model: The model.
        tokenizer: Its tokenizer, if it has one.

    Raises:
        ValueError: If the encoder's positions depend on another padding token.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        check_padding_token(tokenizer, model.config)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (token_id := getattr(tokenizer, name, None)) is not None:
            setattr(model.config, name, token_id)


def without_code(model: nn.Module, is_pushed: bool) -> AbstractContextManager[None]:
    """Return a context in which a model is saved without its code.

    Args:
        model: The model, not wrapped.
        is_pushed: Whether what is saved is pushed to the hub, so that it must load without this package.
    """
    if is_pushed or not isinstance(model, MultiTaskModel):
        return nullcontext()
    return model.saved_without_code()
