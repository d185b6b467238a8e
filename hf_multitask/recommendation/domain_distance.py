"""How close texts are to general ones, as an encoder and its tokenizer see them; and how fast it sees them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskModel
from ..models.text_alignment import Aligner
from ..models.text_words import split_words
from .data_facts import DataFacts
from .language import general_sample

# Beyond any of these, texts are far. docs/FREEZING.md has the values of some datasets with all-MiniLM-L6-v2.
FAR_SPLIT_RATIO = 1.3
FAR_UNKNOWN_SHARE = 0.01
FAR_DISTANCE = 0.7
# Subwords that are encoded at the most, for the distance and as a probe of the speed.
MAX_SUBWORDS = 8000
MIN_TEXTS = 32
BATCH_SIZE = 32


@dataclass(frozen=True)
class Closeness:
    """How far the training rows are from the general sample.

    Args:
        unknown_share: Share of their subwords that are unknown to the tokenizer.
        subwords_per_word: Mean number of subwords of their words.
        general_unknown_share: The share of the general sample.
        general_subwords_per_word: The number of the general sample.
        distance: From their mean embedding to that of the general sample, in units of the root mean square distance
            of the general sample's sentences to their mean.
    """

    unknown_share: float
    subwords_per_word: float
    general_unknown_share: float
    general_subwords_per_word: float
    distance: float

    @property
    def split_ratio(self) -> float:
        """How many times as many subwords a word has as in the general sample."""
        return self.subwords_per_word / self.general_subwords_per_word

    @property
    def far(self) -> str | None:
        """What says that the texts are far, in words; None where nothing does."""
        found = []
        if self.split_ratio > FAR_SPLIT_RATIO:
            found.append(f"words fall into {self.split_ratio:.2f} times as many subwords as in general text")
        if self.unknown_share - self.general_unknown_share > FAR_UNKNOWN_SHARE:
            found.append(f"{self.unknown_share:.1%} of the subwords are unknown to the tokenizer")
        if self.distance > FAR_DISTANCE:
            found.append(f"the mean embedding is {self.distance:.2f} spreads of general text away from it")
        return " and ".join(found) or None


def measure(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, facts: DataFacts) -> tuple[Closeness, float]:
    """Compare some training rows with the general sample, and time their forward pass.

    Args:
        model: The encoder.
        tokenizer: Its tokenizer.
        facts: The data, counted with the same tokenizer.

    Returns:
        The closeness, and the seconds that the encoder takes per subword.
    """
    aligner = Aligner(tokenizer, [])
    sample = general_sample()
    ids = aligner({"words": [[sentence] for sentence in sample]})["input_ids"]
    subwords = sum(map(len, ids)) - aligner.special_tokens * len(ids)
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    # The general sample comes first: it warms up what is timed.
    general = _embed(model, tokenizer, sample)
    chosen = _few(aligner, facts.texts)
    # What the encoder reads of a text that is too long: no more than its first window.
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


def _embed(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """Return vectors (num_texts, hidden) on the CPU, which waits for a device."""
    return model.encode(texts, tokenizer, BATCH_SIZE).float().cpu()


def _few(aligner: Aligner, texts: Sequence[str]) -> list[tuple[str, int]]:
    """Return texts with their lengths in subwords, the shortest first, so many as can be encoded soon."""
    lengths = [sum(row) for row in aligner({"words": [[text] for text in texts]})["window_lengths"]]
    mean = sum(lengths) / len(lengths)
    number = max(int(MAX_SUBWORDS / mean), MIN_TEXTS)
    step = max(len(texts) / number, 1)
    chosen = [int(i * step) for i in range(min(number, len(texts)))]
    return sorted(((texts[i], lengths[i]) for i in chosen), key=lambda item: item[1])
