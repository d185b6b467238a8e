"""Word dropout: tokens of the training rows are replaced at random by the mask token."""

import torch
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskModel
from ..models.type_aliases import Batch


class WordDropout:
    """Replaces tokens of a training batch by the mask token, as Iyyer et al. (2015) leave words out.

    The encoder then has to use the context of a word, which is all it has for names that no training row contains.
    Special tokens stay. Batches are complete while the embeddings are frozen, since the cached states of frozen layers
    are those of complete rows.

    The random numbers come from the generator of the batch's device, which the Trainer saves and restores.

    Args:
        probability: Probability that a token is replaced.
        tokenizer: The trainer's ``processing_class``. Without a mask token, its unknown or padding token is used.

    Raises:
        ValueError: If this is not a tokenizer, or it has none of these tokens.
    """

    def __init__(self, probability: float, tokenizer: object) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise ValueError("word_dropout needs the tokenizer for its mask token; give processing_class=tokenizer.")
        replacements = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
        known = [token for token in replacements if token is not None]
        if not known:
            raise ValueError(
                "word_dropout: expected a mask, unknown or padding token of the tokenizer, found none; set "
                "tokenizer.mask_token."
            )
        self._replacement = known[0]
        self._probability = probability
        self._kept = torch.tensor(sorted(set(tokenizer.all_special_ids)))

    def __call__(self, inputs: Batch, model: MultiTaskModel) -> Batch:
        """Return a training batch with some of its tokens replaced.

        Args:
            inputs: The batch.
            model: The model, not wrapped.
        """
        if "input_ids" not in inputs or not model.encoder.get_input_embeddings().weight.requires_grad:
            return inputs
        tokens = inputs["input_ids"]
        self._kept = self._kept.to(tokens.device)
        is_dropped = torch.rand(tokens.shape, device=tokens.device) < self._probability
        is_dropped &= ~torch.isin(tokens, self._kept)
        return {**inputs, "input_ids": tokens.masked_fill(is_dropped, self._replacement)}


def build_word_dropout(probability: float, tokenizer: object) -> WordDropout | None:
    """Return the word dropout of a training, None if the probability is 0. See `WordDropout`."""
    return WordDropout(probability, tokenizer) if probability else None
