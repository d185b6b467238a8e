"""Sentence embeddings of a model, as sentence-transformers makes them of its encoder."""

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from .configuration_multitask import MultiTaskConfig
from .encoder_loading import max_positions
from .encoder_pooling import pool
from .encoder_sentence_folder import SentenceSettings
from .messages import unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel


def sentence_settings(config: MultiTaskConfig) -> SentenceSettings:
    """Return the settings of sentence embeddings of a model.

    Args:
        config: Config of the model.
    """
    return SentenceSettings(
        config.pooling,
        config.normalize_embeddings,
        config.prompts,
        config.default_prompt_name,
        config.include_prompt,
        config.truncate_dim,
    )


@torch.no_grad()
def encode(
    model: MultiTaskPreTrainedModel,
    sentences: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    prompt_name: str | None = None,
) -> torch.Tensor:
    """Embed sentences; see `MultiTaskModel.encode`.

    Args:
        model: Model.
        sentences: Sentences.
        tokenizer: Tokenizer of the encoder.
        batch_size: Number of sentences per pass.
        prompt_name: Name of the prompt; the default one if None.

    Returns:
        Vectors (num_sentences, hidden).

    Raises:
        ValueError: If the encoder has no such prompt.
    """
    settings = sentence_settings(model.config)
    prompt = _find_prompt(settings, prompt_name)
    prompt_length = 0 if settings.include_prompt or not prompt else _num_tokens(tokenizer, prompt)
    # A tokenizer that the caller has loaded may have no limit.
    limit = min(tokenizer.model_max_length, max_positions(model.config) or tokenizer.model_max_length)
    # Longest first, as in sentence-transformers: with padding on the left, positions depend on the batch.
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]), reverse=True)
    vectors: list[torch.Tensor] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch_size):
        texts = [prompt + sentences[i] for i in order[start : start + batch_size]]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        batch = batch.to(model.device)
        states = model.encoder(**batch).last_hidden_state
        vectors.extend(pool(states, batch["attention_mask"], settings.pooling, prompt_length))
    model.train(was_training)
    size = min(settings.truncate_dim or model.encoder.config.hidden_size, model.encoder.config.hidden_size)
    if not vectors:
        return torch.empty(0, size, device=model.device)
    by_sentence = dict(zip(order, vectors, strict=True))
    embeddings = torch.stack([by_sentence[i] for i in range(len(sentences))])
    return (functional.normalize(embeddings, dim=1) if settings.normalize else embeddings)[:, :size]


def _find_prompt(settings: SentenceSettings, name: str | None) -> str:
    """Return the text of a prompt, or of the default one."""
    name = settings.default_prompt_name if name is None else name
    if name is None:
        return ""
    if name not in settings.prompts:
        raise ValueError(f"prompt_name: {unknown_name_message('prompt', name, settings.prompts)}")
    return settings.prompts[name]


def _num_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> int:
    """Return the number of tokens of a prompt in front of a sentence, special tokens at its start included."""
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)
