"""Rows to a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .alignment import NO_POSITION


@dataclass
class MultiTaskDataCollator:
    """Pads prepared rows to one batch with the labels of all tasks.

    Args:
        tokenizer: The tokenizer; it must pad on the right, where positions of words stay as they are.
        tasks: The tasks, as `prepare_datasets` returns them.
        pad_to_multiple_of: Pad sequences to a multiple of this, such as 8 for tensor cores.

    Raises:
        ValueError: If the tokenizer pads on the left or has no padding token.
    """

    tokenizer: PreTrainedTokenizerBase
    tasks: Sequence[TaskConfig]
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.tokenizer.padding_side != "right":
            raise ValueError(
                f"the tokenizer must pad on the right, found padding_side={self.tokenizer.padding_side!r}."
            )
        if self.tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no padding token; set tokenizer.pad_token.")

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Build a batch.

        Args:
            rows: Prepared rows. Columns that the model does not take are left out.

        Returns:
            ``input_ids``, ``attention_mask`` and what else the tokenizer makes (batch, seq_len); ``tag_positions``
            (batch, num_words) and ``labels`` by task where the rows have them.
        """
        batch: dict[str, Any] = {}
        padding = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        for name in self.tokenizer.model_input_names:
            if name in rows[0]:
                batch[name] = _pad([row[name] for row in rows], padding.get(name, 0), self.pad_to_multiple_of)
        if "tag_positions" in rows[0]:
            batch["tag_positions"] = _pad([row["tag_positions"] for row in rows], NO_POSITION)
        if "labels" in rows[0]:
            batch["labels"] = {
                task.name: _labels(task, [row["labels"][task.name] for row in rows]) for task in self.tasks
            }
        return batch


def _labels(task: TaskConfig, labels: list[Any]) -> torch.Tensor:
    if task.is_token_task:
        return _pad(labels, IGNORE_INDEX)
    return torch.tensor(labels, dtype=torch.float if task.problem_type in (MULTI_LABEL, REGRESSION) else torch.long)


def _pad(rows: list[list[int]], value: int, multiple: int | None = None) -> torch.Tensor:
    """Pad rows of different length on the right: (batch, longest)."""
    longest = max(len(row) for row in rows)
    if multiple:
        longest = -(-longest // multiple) * multiple
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
