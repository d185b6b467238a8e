"""Cost of aligning in addition to the tokenizer, and of the whole preparation with and without the cache."""

import tempfile
from collections.abc import Sequence
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from hf_multitask import prepare_datasets
from hf_multitask.models.text_alignment import Aligner

from .rows import TASKS
from .timing import compare

ROWS_PER_BATCH = 1000  # default of `datasets.Dataset.map`


def compare_alignment(
    rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, repeats: int
) -> dict[str, dict[str, Any]]:
    """Compare the tokenizer with the aligner and with the whole preparation.

    Args:
        rows: The rows.
        tokenizer: A fast tokenizer.
        repeats: Number of rounds.

    Returns:
        Result of `compare` for ``tokenizer`` (calls on batches of words, truncated), ``aligner`` (token ids, windows
        and word positions of the same batches), ``prepare`` (`prepare_datasets` on rows in memory, without cache) and
        ``prepare_from_cache`` (the same with the aligned rows in the cache).
    """
    aligner = Aligner(tokenizer, TASKS)
    words = [row["tokens"] for row in rows]
    batches = [words[start : start + ROWS_PER_BATCH] for start in range(0, len(words), ROWS_PER_BATCH)]

    def tokenize() -> None:
        for batch in batches:
            tokenizer(batch, is_split_into_words=True, truncation=True, max_length=aligner.max_length)

    def align() -> None:
        for batch in batches:
            aligner({"words": batch})

    def prepare() -> None:
        datasets.disable_caching()
        prepare_datasets({"train": rows}, tokenizer, TASKS)

    def prepare_from_cache() -> None:
        datasets.enable_caching()
        prepare_datasets({"train": rows}, tokenizer, TASKS)

    previous = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = folder
        try:
            prepare_from_cache()  # fills the cache
            return compare(
                {
                    "tokenizer": tokenize,
                    "aligner": align,
                    "prepare": prepare,
                    "prepare_from_cache": prepare_from_cache,
                },
                repeats,
            )
        finally:
            datasets.enable_caching()
            datasets.config.HF_DATASETS_CACHE = previous
