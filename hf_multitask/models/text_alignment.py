"""Alignment of words and subwords: token ids in windows, and the subword that represents each word."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import LARGE_INTEGER

from .encoder_loading import check_positions
from .losses import IGNORE_INDEX
from .tags_iob2 import inside_tag
from .tasks import TaskConfig
from .text_inputs import TEXT_PAIR_COLUMN
from .text_windows import FIRST, CutRow, cut_row, flat_subwords

NO_POSITION = -1
LABEL_SUBWORDS = ("first", "all", "last")
# The default overlap of windows is the maximum length divided by this number.
DEFAULT_OVERLAP_DIVISOR = 4
# Column of the word of each item of `tag_positions`, if all subwords carry a tag.
TAG_WORDS_COLUMN = "tag_words"
# Logarithm of a probability of practically zero, which float16 can represent.
MIN_LOG_PROBABILITY = -30.0


def needs_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer treats a word without a space before it as the middle of a word.

    Byte-level BPE tokenizers (RoBERTa, ModernBERT) do, unless they were created with ``add_prefix_space``.
    """
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    state = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer is not None else {}
    parts = state.get("pretokenizers", [state])
    return any(part.get("type") == "ByteLevel" and not part.get("add_prefix_space") for part in parts)


def word_positions(word_ids: Sequence[int | None], num_words: int, which: str) -> list[int]:
    """Return the index of each word's first or last subword; -1 for a word without a subword.

    Args:
        word_ids: Word of each subword, None for special tokens.
        num_words: Number of words.
        which: ``"first"`` or ``"last"``.

    Returns:
        Indices (num_words).
    """
    positions = [NO_POSITION] * num_words
    for i, word in enumerate(word_ids):
        if word is not None and (which == "last" or positions[word] == NO_POSITION):
            positions[word] = i
    return positions


def all_subwords(word_ids: Sequence[int | None], num_words: int) -> tuple[list[int], list[int]]:
    """Return all subwords that belong to words, and the words without a subword.

    Args:
        word_ids: Word of each subword, None for special tokens.
        num_words: Number of words.

    Returns:
        Indices of the subwords, with -1 for each word without a subword; and the word of each index.
    """
    pairs = [(i, word) for i, word in enumerate(word_ids) if word is not None]
    present = {word for _, word in pairs}
    pairs += [(NO_POSITION, word) for word in range(num_words) if word not in present]
    return [i for i, _ in pairs], [word for _, word in pairs]


def spread_tags(task: TaskConfig, tags: Sequence[int], words: Sequence[int]) -> list[int]:
    """Return the tag of each subword: the tag of its word, with I- instead of B- after the first subword.

    Args:
        task: Token task of the tags.
        tags: Tag ids of the words.
        words: Word of each subword, as `all_subwords` returns them.

    Returns:
        Tag ids of the subwords.
    """
    labels, ids = task.labels or [], task.label2id
    spread, seen = [], set()
    for word in words:
        tag = tags[word]
        if word in seen and tag != IGNORE_INDEX:
            tag = ids[inside_tag(labels[tag])]
        seen.add(word)
        spread.append(tag)
    return spread


def spread_scores(task: TaskConfig, scores: np.ndarray, words: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the log-probabilities of the tags of each subword, given those of its word.

    As in `spread_tags`, a B- tag becomes I- after the first subword: its probability is added to that of I-.

    Args:
        task: Token task of the tags.
        scores: Log-probabilities of the words (num_words, num_labels).
        words: Word of each subword, as `all_subwords` returns them.

    Returns:
        Log-probabilities of the subwords (num_subwords, num_labels).
    """
    spread = scores[np.asarray(words)]
    is_further = np.ones(len(spread), dtype=bool)
    is_further[np.unique(words, return_index=True)[1]] = False
    begin = [i for i, label in enumerate(task.labels or []) if label != inside_tag(label)]
    inside = [task.label2id[inside_tag((task.labels or [])[i])] for i in begin]
    further = spread[is_further]
    further[:, inside] = np.logaddexp(further[:, begin], further[:, inside])
    further[:, begin] = MIN_LOG_PROBABILITY
    spread[is_further] = further
    return spread


class Aligner:
    """Tokenizes a batch of rows and aligns their tags, for ``map(batched=True)``.

    A row longer than ``max_length`` is cut into overlapping windows. Their tokens are concatenated, and
    ``window_lengths`` contains the length of each window. Each word counts once, in the window where it has most
    context. For a pair of texts, the first text is cut, and each window contains the second, which is cut to at most
    half of a window.

    Args:
        tokenizer: Fast tokenizer.
        tasks: Tasks with their labels.
        max_length: Maximum length of a sequence, special tokens included. Defaults to the tokenizer's maximum.
        overlap: Number of subwords that a window shares with the window before. Defaults to a quarter of
            ``max_length``.
        truncate: Whether to truncate rows at ``max_length`` instead; for a pair, the longer text is truncated.
        label_subwords: Subwords that carry the tag of a word: ``"first"``, ``"all"`` or ``"last"``.

    Raises:
        ValueError: If windows with this ``overlap`` would contain nothing new, the encoder of a tokenizer from
            `load_tokenizer` has fewer positions than ``max_length``, or the tokenizer truncates on the left.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tasks: Sequence[TaskConfig],
        max_length: int | None = None,
        overlap: int | None = None,
        truncate: bool = False,
        label_subwords: str = "first",
    ) -> None:
        if tokenizer.truncation_side != "right":
            # Rows are cut here instead of by the tokenizer.
            raise ValueError(
                f"the tokenizer must cut on the right, found truncation_side={tokenizer.truncation_side!r}."
            )
        self.tokenizer = tokenizer
        self.token_tasks = [task for task in tasks if task.is_token_task]
        self.max_length = max_length or tokenizer.model_max_length
        if self.max_length > LARGE_INTEGER:
            self.max_length = None
        check_positions(self.max_length, getattr(tokenizer, "encoder_positions", None))
        self.overlap = _checked_overlap(tokenizer, self.max_length, overlap)
        self.truncate = truncate
        self.label_subwords = label_subwords
        self.prefix_space = needs_prefix_space(tokenizer)
        self.special_tokens = tokenizer.num_special_tokens_to_add()
        self.special_tokens_of_pair = tokenizer.num_special_tokens_to_add(pair=True)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Tokenize and align a batch.

        Args:
            batch: Column ``words`` (one item with the text if a row is not split into words); ``text_pair`` if rows
                have a second text, None for rows without one; and ``labels``, if available.

        Returns:
            The model's inputs and ``length``; ``subwords`` (number of subwords before the row is cut) and
            ``truncated`` (whether some of them are lost); for token tasks, ``tag_positions`` and ``lost_words``
            (number of words without a subword), and ``labels`` and ``tag_words`` (the word of each item) if all
            subwords carry a tag; ``window_lengths`` unless rows are truncated.

        Raises:
            ValueError: If ``max_length`` leaves no room for two texts.
        """
        words = batch["words"]
        pairs = batch.get(TEXT_PAIR_COLUMN) or [None] * len(words)
        encoded = self._tokenize(words, pairs)
        whole = [len(ids) for ids in encoded["input_ids"]]
        cuts = [self._cut(encoded, i) for i in range(len(words))]
        columns: dict[str, list[Any]] = {
            name: [row if cut is None else cut.join(row) for row, cut in zip(values, cuts, strict=True)]
            for name, values in encoded.items()
        }
        columns["length"] = [len(ids) for ids in columns["input_ids"]]
        special = [self.special_tokens if pair is None else self.special_tokens_of_pair for pair in pairs]
        columns["subwords"] = [length - count for length, count in zip(whole, special, strict=True)]
        columns["truncated"] = [cut is not None and cut.truncated for cut in cuts]
        if not self.truncate:
            columns["window_lengths"] = [
                [length] if cut is None else [len(window) for window in cut.windows]
                for length, cut in zip(whole, cuts, strict=True)
            ]
        if self.token_tasks:
            word_ids = [self._word_ids(encoded, i, cut) for i, cut in enumerate(cuts)]
            if self.label_subwords == "all":
                subwords = [all_subwords(ids, len(row)) for ids, row in zip(word_ids, words, strict=True)]
                columns["tag_positions"] = [positions for positions, _ in subwords]
                columns[TAG_WORDS_COLUMN] = [owners for _, owners in subwords]
                columns["labels"] = [
                    self._spread_labels(labels, owners)
                    for labels, (_, owners) in zip(batch["labels"], subwords, strict=True)
                ]
            else:
                columns["tag_positions"] = [
                    word_positions(ids, len(row), self.label_subwords)
                    for ids, row in zip(word_ids, words, strict=True)
                ]
            columns["lost_words"] = [positions.count(NO_POSITION) for positions in columns["tag_positions"]]
        return columns

    def _tokenize(self, words: Sequence[Sequence[str]], pairs: Sequence[str | None]) -> BatchEncoding:
        """Return the encoded rows without cutting any."""
        if self.prefix_space:
            # As in running text: a space before every word except the first.
            words = [[word if i == 0 or not word else f" {word}" for i, word in enumerate(row)] for row in words]
        # A second text is passed as one word, which a tokenizer tokenizes like a text.
        rows = [list(row) if pair is None else (list(row), [pair]) for row, pair in zip(words, pairs, strict=True)]
        # With truncation, a tokenizer would combine each window of one text with each of the other, which fills
        # memory.
        return self.tokenizer(rows, is_split_into_words=True, verbose=False)

    def _cut(self, encoded: BatchEncoding, i: int) -> CutRow | None:
        """Return the windows of a row, or None if it is not too long."""
        if self.max_length is None or len(encoded["input_ids"][i]) <= self.max_length:
            return None
        return cut_row(encoded.sequence_ids(i), self.max_length, self.overlap, self.truncate)

    def _word_ids(self, encoded: BatchEncoding, i: int, cut: CutRow | None) -> list[int | None]:
        """Return the word that each subword of a row counts for, None if it counts in another window."""
        word_ids = encoded.word_ids(i)
        if encoded[i].n_sequences > 1:
            word_ids = [
                word if text == FIRST else None for word, text in zip(word_ids, encoded.sequence_ids(i), strict=True)
            ]
        if cut is None:
            return word_ids
        return flat_subwords([[word_ids[position] for position in window] for window in cut.windows], cut.overlap)

    def _spread_labels(self, labels: Mapping[str, Any], words: Sequence[int]) -> dict[str, Any]:
        spread = {task.name: spread_tags(task, labels[task.name], words) for task in self.token_tasks}
        return {**labels, **spread}


def _checked_overlap(tokenizer: PreTrainedTokenizerBase, max_length: int | None, overlap: int | None) -> int:
    if max_length is None:
        return 0
    room = max_length - tokenizer.num_special_tokens_to_add()
    if room < 1:
        raise ValueError(
            f"max_length={max_length} leaves no room for a word besides {max_length - room} special tokens."
        )
    if overlap is None:
        return min(max_length // DEFAULT_OVERLAP_DIVISOR, room - 1)
    if not 0 <= overlap < room:
        raise ValueError(f"overlap must be from 0 to {room - 1} (max_length={max_length}), found {overlap}.")
    return overlap
