"""What aligning costs on top of the tokenizer, and what a whole preparation costs, with and without the cache."""

import tempfile
from collections.abc import Sequence
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from hf_multitask import prepare_datasets
from hf_multitask.models.text_alignment import Aligner

from .rows import TASKS
from .timing import compare

ROWS_A_BATCH = 1000  # as `datasets.Dataset.map` has them


def compare_alignment(
    rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, repeats: int
) -> dict[str, dict[str, Any]]:
    """Compare the tokenizer alone with what is done beside it.

    Args:
        rows: The rows.
        tokenizer: A fast tokenizer.
        repeats: Number of rounds.

    Returns:
        What `compare` returns of ``tokenizer`` (its call on batches of words, truncated), ``aligner`` (token ids,
        windows and words' positions of the same batches), ``prepare`` (`prepare_datasets` from rows in memory, without
        a cache) and ``prepare_from_cache`` (again, with the aligned rows from the cache).
    """
    aligner = Aligner(tokenizer, TASKS)
    words = [row["tokens"] for row in rows]
    batches = [words[start : start + ROWS_A_BATCH] for start in range(0, len(words), ROWS_A_BATCH)]

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

    kept = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = folder
        try:
            prepare_from_cache()  # fills it
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
            datasets.config.HF_DATASETS_CACHE = kept
