"""How many rows go through the model at once: given, or what is fastest on this device."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ..data.readers.chunked_file import CHUNK_ROWS
from ..models.predictor import Predictor
from ..models.text_inputs import TextInput

logger = logging.getLogger(__name__)

AUTO = "auto"
DEFAULT_BATCH_SIZE = 32
_MIN_TOKENS, _MAX_TOKENS = 2**10, 2**19
# Of fewer tokens than these the predictions are done before anything is measured.
_WORTH_MEASURING = 2**15
# Larger batches must be so much faster to be worth their memory.
_WORTH_IT = 1.05


class BatchLimit(NamedTuple):
    """What a batch may hold.

    Args:
        rows: The most rows.
        tokens: The most tokens, padding included; a row that has more goes alone.
    """

    rows: int
    tokens: int | None

    def halved(self) -> "BatchLimit":
        """Return a limit for half as much."""
        return BatchLimit(max(self.rows // 2, 1), None if self.tokens is None else max(self.tokens // 2, 1))


def limit_rows(batch_size: int, max_length: int | None) -> BatchLimit:
    """Return the limit for a number of rows; a row in windows counts as one for each of them."""
    return BatchLimit(batch_size, None if max_length is None else batch_size * max_length)


def find_limit(predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Mapping[str, Any]]) -> BatchLimit:
    """Double the tokens of a batch for as long as that is faster and fits into memory.

    Args:
        predictor: What predicts.
        inputs: The first texts.
        rows: The texts tokenized.

    Returns:
        The limit; that of the default batch size where it takes longer to find another than to predict the texts.
    """
    if sum(row["length"] for row in rows) < _WORTH_MEASURING:
        return limit_rows(DEFAULT_BATCH_SIZE, predictor.align.max_length)
    tokens, fastest = _MIN_TOKENS, 0.0
    _tokens_per_second(predictor, inputs, rows, tokens)  # the first pass also sets up the device
    while tokens <= _MAX_TOKENS:
        try:
            speed = _tokens_per_second(predictor, inputs, rows, tokens)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            clear_device_cache(garbage_collection=True)
            break
        if speed < fastest * _WORTH_IT:
            break
        tokens, fastest = tokens * 2, speed
    limit = BatchLimit(CHUNK_ROWS, tokens // 2)
    logger.info("Batches of %d tokens: the fastest on %s.", limit.tokens, predictor.device)
    return limit


def predict_chunk(
    predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Mapping[str, Any]], limit: BatchLimit
) -> tuple[list[dict[str, Any]], BatchLimit]:
    """Predict texts; where memory does not suffice, in smaller batches.

    Args:
        predictor: What predicts.
        inputs: The texts.
        rows: The texts tokenized.
        limit: What a batch may hold.

    Returns:
        The predictions, and the limit that memory sufficed for.

    Raises:
        RuntimeError: If memory does not suffice for a single text.
    """
    while True:
        try:
            return predictor.predict_prepared(inputs, rows, limit.rows, limit.tokens), limit
        except RuntimeError as error:
            if limit.rows == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        limit = limit.halved()
        logger.warning("Out of memory: going on with batches of at most %d rows.", limit.rows)


def _tokens_per_second(
    predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Mapping[str, Any]], max_tokens: int
) -> float:
    """Time a batch of so many tokens, of rows of all lengths."""
    mean = sum(row["length"] for row in rows) / len(rows)
    count = max(round(max_tokens / mean), 1)
    chosen = [i * len(rows) // count for i in range(count)]
    start = time.perf_counter()
    predictor.predict_prepared([inputs[i] for i in chosen], [rows[i] for i in chosen], count, max_tokens)
    return sum(rows[i]["length"] for i in chosen) / (time.perf_counter() - start)
