"""Data collator for prepared rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .losses import IGNORE_INDEX
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .text_alignment import NO_POSITION, TAG_WORDS_COLUMN, spread_scores
from .type_aliases import Batch, Row

# Index of a row in its dataset. Batches carry it if something is stored per row.
ROW_NUMBER_COLUMN = "row_number"
# Scores of a teacher by task, which a student is trained on: a column of rows and an entry of batches.
TEACHER_COLUMN = "teacher"
# Entries of a batch with one item per row; all others have one item per window.
_PER_ROW = ("labels", "tag_positions", "row_numbers", TEACHER_COLUMN)


@dataclass
class MultiTaskDataCollator:
    """Data collator that pads prepared rows to a batch with the labels of all tasks.

    Args:
        tokenizer: Tokenizer of the encoder. Whatever side it pads on, rows are padded on the right.
        tasks: Tasks, as `prepare_datasets` returns them.
        pad_to_multiple_of: Pad sequences to a multiple of this number, such as 8 for tensor cores.

    Raises:
        ValueError: If the tokenizer has no padding token.
    """

    tokenizer: PreTrainedTokenizerBase
    tasks: Sequence[TaskConfig]
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.tokenizer.pad_token_id is None:
            raise ValueError(
                "the tokenizer has no padding token; load it with load_tokenizer(…, pad_token=…), or set "
                "tokenizer.pad_token to one of its tokens."
            )

    @property
    def columns(self) -> list[str]:
        """Columns of the rows that batches are built from, if the rows have them."""
        of_teacher = [TEACHER_COLUMN, TAG_WORDS_COLUMN]
        per_row = ["labels", "tag_positions", "window_lengths", ROW_NUMBER_COLUMN, *of_teacher]
        return [*self.tokenizer.model_input_names, *per_row]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Build a batch.

        Args:
            rows: Prepared rows. Columns that the model does not take are ignored.

        Returns:
            ``labels`` by task and ``tag_positions`` (batch, num_words) if the rows have them; ``input_ids``,
            ``attention_mask`` and the other inputs that the tokenizer makes (batch, seq_len). If a row has several
            windows, these inputs are (num_windows, seq_len), ``row_windows`` (batch, num_windows) marks the windows of
            each row, and ``tag_positions`` count through all windows. ``row_numbers`` is a list, which stays on the
            host when a batch moves to a device. ``teacher`` has the scores of a teacher by task, with the shape of the
            task's logits and NaN where there are none, if the rows have them.
        """
        batch: Batch = {}
        windows = [_window_lengths(row) for row in rows]
        if max(len(lengths) for lengths in windows) > 1:
            # First, because the Trainer reads the batch size from the first tensor of a batch.
            batch["row_windows"] = _row_windows(windows)
        if "labels" in rows[0]:
            batch["labels"] = {
                task.name: _labels(task, [row["labels"][task.name] for row in rows]) for task in self.tasks
            }
        if TEACHER_COLUMN in rows[0]:
            taught = [task for task in self.tasks if task.name in rows[0][TEACHER_COLUMN]]
            batch[TEACHER_COLUMN] = {task.name: _teacher_scores(task, rows) for task in taught}
        if "tag_positions" in rows[0]:
            batch["tag_positions"] = _pad([row["tag_positions"] for row in rows], NO_POSITION)
        padding = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        for name in self.tokenizer.model_input_names:
            if name in rows[0]:
                # Attention over no token is NaN: a row without tokens attends to one padding token.
                one_token = [1 if name == "attention_mask" else padding.get(name, 0)]
                sequences = [
                    window if len(window) else one_token
                    for row, lengths in zip(rows, windows, strict=True)
                    for window in _split_windows(row[name], lengths)
                ]
                batch[name] = _pad(sequences, padding.get(name, 0), self.pad_to_multiple_of)
        if "row_windows" in batch and "tag_positions" in batch:
            batch["tag_positions"] = _flat_positions(batch["tag_positions"], windows, batch["input_ids"].size(1))
        if ROW_NUMBER_COLUMN in rows[0]:
            batch["row_numbers"] = [row[ROW_NUMBER_COLUMN] for row in rows]
        return batch


def columns_to_rows(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Turn columns of equal length into rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def first_rows(batch: Mapping[str, Any], count: int) -> Batch:
    """Return the first rows of a batch, with all their windows.

    Args:
        batch: Batch of `MultiTaskDataCollator`, or its labels by task.
        count: Number of rows.

    Returns:
        The smaller batch.
    """
    if "row_windows" not in batch:
        return {name: _first_items(value, count) for name, value in batch.items()}
    windows = int(batch["row_windows"][:count].sum())
    per_window = {name: value[:windows] for name, value in batch.items() if name not in _PER_ROW}
    per_row = {name: _first_items(batch[name], count) for name in _PER_ROW if name in batch}
    return {**per_window, **per_row, "row_windows": batch["row_windows"][:count, :windows]}


def _first_items(value: Any, count: int) -> Any:
    return first_rows(value, count) if isinstance(value, Mapping) else value[:count]


def _labels(task: TaskConfig, labels: list[Any]) -> torch.Tensor:
    if task.is_token_task:
        return _pad(labels, IGNORE_INDEX)
    is_float = task.problem_type in (MULTI_LABEL, REGRESSION)
    if is_float and (longest := max(map(len, labels))) > min(map(len, labels)):
        # Labels that the task does not have, after those that it has.
        labels = [[*row, *[IGNORE_INDEX] * (longest - len(row))] for row in labels]
    # Through an array: torch converts the numbers of a list one by one.
    return torch.from_numpy(np.array(labels, dtype=np.float32 if is_float else np.int64))


def _teacher_scores(task: TaskConfig, rows: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Return a teacher's scores (batch, num_labels), or padded with NaN (batch, num_words, num_labels)."""
    scores = [np.asarray(row[TEACHER_COLUMN][task.name], dtype=np.float32) for row in rows]
    if not task.is_token_task:
        return torch.from_numpy(np.stack(scores))
    words = [row_scores.reshape(-1, task.num_labels) for row_scores in scores]
    if TAG_WORDS_COLUMN in rows[0]:
        words = [spread_scores(task, of_row, row[TAG_WORDS_COLUMN]) for of_row, row in zip(words, rows, strict=True)]
    padded = np.full((len(rows), max(map(len, words)), task.num_labels), np.nan, dtype=np.float32)
    for i, of_row in enumerate(words):
        padded[i, : len(of_row)] = of_row
    return torch.from_numpy(padded)


def _window_lengths(row: Mapping[str, Any]) -> Sequence[int]:
    lengths = row.get("window_lengths")
    return [len(row["input_ids"])] if lengths is None or not len(lengths) else lengths


def _split_windows(values: Sequence[int], lengths: Sequence[int]) -> list[Sequence[int]]:
    """Split the concatenated values of a row into its windows."""
    if len(lengths) == 1:
        return [values]
    ends = list(accumulate(lengths))
    return [values[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _row_windows(windows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Mark the windows of each row: (batch, num_windows)."""
    owners = torch.tensor([i for i, lengths in enumerate(windows) for _ in lengths])
    return owners == torch.arange(len(windows)).unsqueeze(1)


def _flat_positions(positions: torch.Tensor, windows: Sequence[Sequence[int]], seq_len: int) -> torch.Tensor:
    """Turn positions in the windows of a row (batch, num_words) into positions in all padded windows."""
    flat, first = positions.clone(), 0
    for i, lengths in enumerate(windows):
        starts = torch.tensor(list(accumulate(lengths[:-1], initial=0)))
        in_row = positions[i, positions[i] != NO_POSITION]
        window = torch.searchsorted(starts, in_row, right=True) - 1
        flat[i, positions[i] != NO_POSITION] = in_row - starts[window] + (first + window) * seq_len
        first += len(lengths)
    return flat


def _pad(rows: Sequence[Sequence[int]], value: int, multiple: int | None = None) -> torch.Tensor:
    """Pad rows on the right to the length of the longest: (batch, longest)."""
    longest = max(len(row) for row in rows)
    if multiple:
        longest = -(-longest // multiple) * multiple
    padded = np.full((len(rows), longest), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
