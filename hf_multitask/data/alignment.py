"""Words to subwords: token ids, and the subword that carries each word's tag."""

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import BatchEncoding

from ..models.losses import IGNORE_INDEX
from ..models.tag_schemes import inside_tag
from ..models.tasks import TaskConfig

NO_POSITION = -1


def needs_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer takes a word without a space before it for the middle of a word.

    Byte-level BPE tokenizers (RoBERTa, ModernBERT) do, unless they were made with ``add_prefix_space``.
    """
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    state = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer is not None else {}
    parts = state.get("pretokenizers", [state])
    return any(part.get("type") == "ByteLevel" and not part.get("add_prefix_space") for part in parts)


def tokenize_words(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[Sequence[str]], max_length: int | None, prefix_space: bool
) -> BatchEncoding:
    """Tokenise texts that are split into words.

    Args:
        tokenizer: A fast tokenizer.
        words: The words of each text.
        max_length: Longest sequence, special tokens included.
        prefix_space: Whether every word but a text's first gets a space in front, as it has in running text; see
            `needs_prefix_space`.

    Returns:
        The encodings, whose ``word_ids`` number the words of each text.
    """
    if prefix_space:
        words = [[word if i == 0 or not word else f" {word}" for i, word in enumerate(text)] for text in words]
    return tokenizer(
        [list(text) for text in words],
        is_split_into_words=True,
        truncation=max_length is not None,
        max_length=max_length,
    )


def first_subwords(word_ids: Sequence[int | None], num_words: int) -> list[int]:
    """Return the index of each word's first subword, -1 for a word that has none.

    Args:
        word_ids: The word of each subword, None for special tokens.
        num_words: Number of words.

    Returns:
        Indexes (num_words).
    """
    positions = [NO_POSITION] * num_words
    last = None
    for i, word in enumerate(word_ids):
        if word is not None and word != last:
            positions[word] = i
        last = word
    return positions


def all_subwords(word_ids: Sequence[int | None], num_words: int) -> tuple[list[int], list[int]]:
    """Return every subword that belongs to a word, and the words without any.

    Args:
        word_ids: The word of each subword, None for special tokens.
        num_words: Number of words.

    Returns:
        Indexes of the subwords, -1 for a word without any; and the word of each. Both are as long as there are
        subwords and words without one.
    """
    positions: list[int] = []
    words: list[int] = []
    present = {word for word in word_ids if word is not None}
    for i, word in enumerate(word_ids):
        if word is not None:
            positions.append(i)
            words.append(word)
    for word in range(num_words):
        if word not in present:
            positions.append(NO_POSITION)
            words.append(word)
    return positions, words


def spread_tags(task: TaskConfig, tags: Sequence[int], words: Sequence[int]) -> list[int]:
    """Give each subword its word's tag, I- on all but the first where the word's is B-.

    Args:
        task: The token task that the tags belong to.
        tags: Ids of the words' tags.
        words: The word of each subword, as `all_subwords` returns them.

    Returns:
        Ids of the subwords' tags.
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


class Aligner:
    """Tokenises a batch of rows and places their tags; made for ``datasets.Dataset.map(batched=True)``.

    Args:
        tokenizer: A fast tokenizer.
        tasks: The tasks, with their labels.
        max_length: Longest sequence, special tokens included.
        label_subwords: Which subwords carry a word's tag: ``"first"`` or ``"all"``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tasks: Sequence[TaskConfig],
        max_length: int,
        label_subwords: str = "first",
    ) -> None:
        self.tokenizer = tokenizer
        self.token_tasks = [task for task in tasks if task.is_token_task]
        self.max_length = max_length
        self.label_subwords = label_subwords
        self.prefix_space = needs_prefix_space(tokenizer)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Tokenise and align a batch.

        Args:
            batch: The columns ``words`` (the text alone where a row is not split) and ``labels``.

        Returns:
            The model's inputs, ``length``, ``labels``, for token tasks ``tag_positions``, and for the report
            ``lost_words`` (without a subword) and ``truncated`` (rows cut at ``max_length``).
        """
        encoded = tokenize_words(self.tokenizer, batch["words"], self.max_length, self.prefix_space)
        columns: dict[str, list[Any]] = {name: encoded[name] for name in encoded}
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        columns["truncated"] = [self._is_truncated(encoded, i) for i in range(len(batch["words"]))]
        columns["labels"] = [dict(labels) for labels in batch["labels"]]
        if self.token_tasks:
            positions = [self._align(encoded, i, words, columns) for i, words in enumerate(batch["words"])]
            columns["tag_positions"] = positions
            columns["lost_words"] = [row.count(NO_POSITION) for row in positions]
        return columns

    def _align(self, encoded: BatchEncoding, i: int, words: list[str], columns: dict[str, list[Any]]) -> list[int]:
        word_ids = encoded.word_ids(i)
        if self.label_subwords == "first":
            return first_subwords(word_ids, len(words))
        positions, words_of_subwords = all_subwords(word_ids, len(words))
        labels = columns["labels"][i]
        for task in self.token_tasks:
            labels[task.name] = spread_tags(task, labels[task.name], words_of_subwords)
        return positions

    def _is_truncated(self, encoded: BatchEncoding, i: int) -> bool:
        return len(encoded["input_ids"][i]) == self.max_length and bool(encoded.encodings[i].overflowing)
