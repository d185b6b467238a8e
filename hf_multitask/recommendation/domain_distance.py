"""Distance of texts to general text, as an encoder and its tokenizer see them, and the speed of the encoder.

The distance is between states of the embeddings, below all layers. Fine-tuning moves the upper layers most: a
fine-tuned encoder sets the texts of its tasks apart, so that by its final states they would be far from general text,
although no encoder knows them better. Its embeddings are nearly those of the pretraining.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskModel
from ..models.text_alignment import Aligner
from ..models.text_words import split_words
from .data_facts import DataFacts, evenly_spaced
from .language import general_sample

# Texts that exceed any of these are far. docs/FREEZING.md lists the values of some texts with all-MiniLM-L6-v2.
FAR_SPLIT_RATIO = 1.3
FAR_UNKNOWN_SHARE = 0.01
FAR_DISTANCE = 0.8
# Maximum number of subwords that are encoded to measure the distance and the speed.
MAX_SUBWORDS = 8000
MIN_TEXTS = 32
BATCH_SIZE = 32


@dataclass(frozen=True)
class Closeness:
    """Comparison of the training rows with the general sample.

    Args:
        unknown_share: Share of the rows' subwords that are unknown to the tokenizer.
        subwords_per_word: Mean number of subwords per word of the rows.
        general_unknown_share: `unknown_share` of the general sample.
        general_subwords_per_word: `subwords_per_word` of the general sample.
        distance: Distance between the mean states of the rows and of the general sample, in units of the root mean
            square distance of the general sample's sentences to their mean. The states are those that enter the first
            layer, as means over the tokens of a text.
    """

    unknown_share: float
    subwords_per_word: float
    general_unknown_share: float
    general_subwords_per_word: float
    distance: float

    @property
    def split_ratio(self) -> float:
        """Subwords per word, relative to the general sample."""
        return self.subwords_per_word / self.general_subwords_per_word

    @property
    def far(self) -> str | None:
        """Evidence that the texts are far from general text, in words; None if they are close."""
        evidence = []
        if self.split_ratio > FAR_SPLIT_RATIO:
            evidence.append(f"words have {self.split_ratio:.2f} times as many subwords as in general text")
        if self.unknown_share - self.general_unknown_share > FAR_UNKNOWN_SHARE:
            evidence.append(f"{self.unknown_share:.1%} of the subwords are unknown to the tokenizer")
        if self.distance > FAR_DISTANCE:
            evidence.append(f"the words are {self.distance:.2f} spreads of general text away from general text")
        return " and ".join(evidence) or None


def measure_closeness(
    model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, facts: DataFacts
) -> tuple[Closeness, float]:
    """Compare some training rows with the general sample, and time their forward pass.

    Args:
        model: Model with the encoder.
        tokenizer: Tokenizer of the encoder.
        facts: Facts about the data, counted with the same tokenizer.

    Returns:
        The comparison, and the seconds per subword of the forward pass.
    """
    aligner = Aligner(tokenizer, [])
    sample = general_sample()
    ids = aligner({"words": [[sentence] for sentence in sample]})["input_ids"]
    subwords = sum(map(len, ids)) - aligner.special_tokens * len(ids)
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    # Encoding the general sample first also warms up the encoder for the timing below.
    general = _embed(model, tokenizer, sample)
    chosen = _texts_to_encode(aligner, facts.texts)
    # The encoder reads only the first window of a text that is too long.
    num_subwords = sum(min(length, aligner.max_length or length) for _, length in chosen)
    start = time.perf_counter()
    rows = _embed(model, tokenizer, [text for text, _ in chosen])
    seconds = time.perf_counter() - start
    spread = (general - general.mean(dim=0)).pow(2).sum(dim=1).mean().sqrt()
    distance = (rows.mean(dim=0) - general.mean(dim=0)).norm() / spread.clamp(min=1e-9)
    closeness = Closeness(
        unknown_share=facts.unknown_share,
        subwords_per_word=facts.subwords_per_word,
        general_unknown_share=unknown / subwords,
        general_subwords_per_word=subwords / sum(len(split_words(sentence)) for sentence in sample),
        distance=distance.item(),
    )
    return closeness, seconds / num_subwords


@torch.no_grad()
def _embed(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """Run the encoder over texts and return the mean states that enter its first layer (num_texts, hidden).

    The copy to the CPU waits for the device, as the timing requires.
    """
    was_training = model.training
    model.eval()
    means = []
    for start in range(0, len(texts), BATCH_SIZE):
        batch = tokenizer(
            list(texts[start : start + BATCH_SIZE]), padding=True, truncation=True, return_tensors="pt"
        ).to(model.device)
        output = model.encoder(**batch, output_hidden_states=True)
        is_token = batch["attention_mask"].unsqueeze(-1)
        states = output.hidden_states[0].float() * is_token
        means.append(states.sum(dim=1) / is_token.sum(dim=1).clamp(min=1))
        output.last_hidden_state[0, 0].cpu()
    model.train(was_training)
    return torch.cat(means).cpu()


def _texts_to_encode(aligner: Aligner, texts: Sequence[str]) -> list[tuple[str, int]]:
    """Return evenly spaced texts of about `MAX_SUBWORDS` subwords, the shortest first, each with its length."""
    lengths = [sum(row) for row in aligner({"words": [[text] for text in texts]})["window_lengths"]]
    mean = sum(lengths) / len(lengths)
    chosen = evenly_spaced(list(zip(texts, lengths, strict=True)), max(int(MAX_SUBWORDS / mean), MIN_TEXTS))
    return sorted(chosen, key=lambda item: item[1])
