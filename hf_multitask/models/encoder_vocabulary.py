"""Check that an encoder has an embedding for each token of a tokenizer."""

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .encoder_loading import NUMBERED_AFTER_PADDING


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, source: str | None = None) -> None:
    """Check that an encoder has an embedding for each token.

    Args:
        tokenizer: Tokenizer.
        config: Config of an encoder or of a model.
        source: Folder or hub name that both were loaded from, for the message; None if the caller has the model.

    Raises:
        ValueError: If the tokenizer has more tokens than the encoder has embeddings.
    """
    size = getattr(config.get_text_config(), "vocab_size", None)
    # Not its length: the ids of added tokens may have gaps.
    needed = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size is None or needed <= size:
        return
    new = sorted(token for token, token_id in tokenizer.get_vocab().items() if token_id >= size)
    resize = f"model.resize_token_embeddings({needed})"
    if source is not None:
        resize = f"model = AutoModel.from_pretrained({source!r}), {resize}, then save model and tokenizer to a folder"
    shown = ", ".join(map(repr, new[:3])) + (", …" if len(new) > 3 else "")
    raise ValueError(
        f"tokenizer: expected token ids below {size}, the number of the encoder's embeddings; {len(new)} tokens have "
        f"higher ones: {shown}. Add embeddings: {resize}."
    )


def check_padding_token(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Check that a tokenizer pads with the token that an encoder expects, if the encoder's positions depend on it.

    A training writes the tokenizer's padding token into the config, and the saved model would number positions from
    it.

    Args:
        tokenizer: Tokenizer.
        config: Config of an encoder or of a model.

    Raises:
        ValueError: If it pads with another token.
    """
    encoder = config.get_text_config()
    found, expected = tokenizer.pad_token_id, getattr(encoder, "pad_token_id", None)
    if encoder.model_type not in NUMBERED_AFTER_PADDING or found is None or expected is None or found == expected:
        return
    raise ValueError(
        f"tokenizer: it pads with {tokenizer.pad_token!r}, token {found}, but an encoder of type "
        f"{encoder.model_type!r} numbers its positions from its own padding token, {expected}. Set "
        f"tokenizer.pad_token = {tokenizer.convert_ids_to_tokens(expected)!r}."
    )
