"""Predictions of a model for rows of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data import Rows
from ..data.labels.checks import check_inputs
from ..models import MultiTaskModel
from ..models.predictor import OutputOptions, Predictor
from ..models.text_inputs import TEXT_COLUMN, read_input


def predict(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows | Sequence[str | Mapping[str, Any]],
    batch_size: int = 32,
    tag_scheme: str = "IOB2",
) -> Iterator[dict[str, Any]]:
    """Predict all tasks for each row, in one pass of the encoder.

    A row longer than the tokenizer's ``model_max_length`` is cut into windows, as `MultiTaskConfig` says.

    Args:
        model: The model; it is put into eval mode.
        tokenizer: Its tokenizer.
        rows: Texts, or rows with ``text`` or ``tokens``, and ``text_pair`` where they are pairs. A text is split into
            words as `split_words` does. With both, the words are looked up in the text.
        batch_size: Rows a pass.
        tag_scheme: Scheme to write the tags of token tasks in; ``"original"`` is that of each task's training data.

    Yields:
        By task, in the order of the rows, as `MultiTaskPipeline` returns it with ``word_labels``.

    Raises:
        ValueError: If a row has neither words nor text, or a word that does not occur in its text, or there is no
            such tag scheme.
    """
    if not isinstance(rows, Rows):
        rows = Rows("input", [{TEXT_COLUMN: row} if isinstance(row, str) else dict(row) for row in rows])
    check_inputs(rows)
    predictor = Predictor.of_model(model, tokenizer, OutputOptions(word_labels=True, tag_scheme=tag_scheme))
    inputs = [read_input(row, rows.place(i), predictor.splits_words) for i, row in enumerate(rows.rows)]
    yield from predictor.stream(inputs, batch_size)
