"""Batch sizes for predictions: given, or the fastest on the device."""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ..data.readers.chunked_file import CHUNK_ROWS
from ..models.predictor import Prediction, Predictor
from ..models.text_inputs import TextInput
from ..models.type_aliases import Row

logger = logging.getLogger(__name__)

AUTO = "auto"
DEFAULT_BATCH_SIZE = 32
_MIN_TOKENS, _MAX_TOKENS = 2**10, 2**19
# Fewer tokens are predicted faster than a limit is measured.
_MIN_TOKENS_TO_MEASURE = 2**15
# Minimum gain in speed for which larger batches are worth their memory.
_MIN_SPEEDUP = 1.05


class BatchLimit(NamedTuple):
    """Maximum size of a batch.

    Args:
        rows: Maximum number of rows.
        tokens: Maximum number of tokens, padding included; None for no limit. A longer row is a batch of one row.
    """

    rows: int
    tokens: int | None

    def halved(self) -> "BatchLimit":
        """Return half of this limit."""
        return BatchLimit(max(self.rows // 2, 1), None if self.tokens is None else max(self.tokens // 2, 1))


def limit_rows(batch_size: int, max_length: int | None) -> BatchLimit:
    """Return the limit for a number of rows. A row that is cut into windows counts as one row per window."""
    return BatchLimit(batch_size, None if max_length is None else batch_size * max_length)


def find_limit(predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Row]) -> BatchLimit:
    """Find the fastest batch size that fits into memory, by doubling the number of tokens.

    Args:
        predictor: The predictor.
        inputs: The first texts.
        rows: The tokenized texts.

    Returns:
        The fastest limit found; the default batch size if there are too few texts to be worth measuring.
    """
    if sum(row["length"] for row in rows) < _MIN_TOKENS_TO_MEASURE:
        return limit_rows(DEFAULT_BATCH_SIZE, predictor.align.max_length)
    tokens, fastest = _MIN_TOKENS, 0.0
    _tokens_per_second(predictor, inputs, rows, tokens)  # the first pass also initializes the device
    while tokens <= _MAX_TOKENS:
        try:
            speed = _tokens_per_second(predictor, inputs, rows, tokens)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            clear_device_cache(garbage_collection=True)
            break
        if speed < fastest * _MIN_SPEEDUP:
            break
        tokens, fastest = tokens * 2, speed
    limit = BatchLimit(CHUNK_ROWS, tokens // 2)
    logger.info("Batches of %d tokens: the fastest on %s.", limit.tokens, predictor.device)
    return limit


def predict_chunk(
    predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Row], limit: BatchLimit
) -> tuple[list[Prediction], BatchLimit]:
    """Predict texts, in smaller batches if memory runs out.

    Args:
        predictor: The predictor.
        inputs: The texts.
        rows: The tokenized texts.
        limit: Maximum size of a batch.

    Returns:
        The predictions, and the limit that fitted into memory.

    Raises:
        RuntimeError: If even a single text does not fit into memory.
    """
    while True:
        try:
            return predictor.predict_prepared(inputs, rows, limit.rows, limit.tokens), limit
        except RuntimeError as error:
            if limit.rows == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        limit = limit.halved()
        logger.warning("Out of memory: continuing with batches of at most %d rows.", limit.rows)


def _tokens_per_second(
    predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Row], max_tokens: int
) -> float:
    """Measure the speed of a batch of about ``max_tokens`` tokens, with rows of all lengths."""
    mean = sum(row["length"] for row in rows) / len(rows)
    count = max(round(max_tokens / mean), 1)
    chosen = [i * len(rows) // count for i in range(count)]
    start = time.perf_counter()
    predictor.predict_prepared([inputs[i] for i in chosen], [rows[i] for i in chosen], count, max_tokens)
    return sum(rows[i]["length"] for i in chosen) / (time.perf_counter() - start)
