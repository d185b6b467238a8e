"""Batches with at most a number of tokens, padding included."""

from collections.abc import Sequence

import numpy as np


def rows_per_batch(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> np.ndarray:
    """Return how many rows of each row's length fit into a batch, at least 1.

    Args:
        lengths: Tokens per row; a row without tokens counts as one, because it is padded.
        max_tokens: Maximum number of tokens per batch, padding included. A batch of one row may have more.

    Returns:
        Numbers of rows (num_rows).
    """
    return np.maximum(max_tokens // np.maximum(np.asarray(lengths, dtype=np.int64), 1), 1)


def cut_batches(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut rows into consecutive batches.

    Args:
        sizes: For each row, the number of rows of a batch that starts with it; for rows sorted by length, longest
            first, as `rows_per_batch` returns them.

    Returns:
        Start and end of each batch.
    """
    batches, start = [], 0
    while start < len(sizes):
        end = min(start + sizes[start], len(sizes))
        batches.append((start, end))
        start = end
    return batches
