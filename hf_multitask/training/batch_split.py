"""Rows of a batch divided by the tasks that they have labels of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..models import TaskConfig
from ..models.losses import has_loss
from ..models.type_aliases import Batch


@dataclass(frozen=True)
class BatchPart:
    """Rows of a batch.

    Args:
        inputs: Inputs of the model for these rows.
        tasks: Positions of the tasks that have labels in them.
    """

    inputs: Batch
    tasks: frozenset[int]


def split_by_tasks(batch: Batch, tasks: Sequence[TaskConfig]) -> list[BatchPart]:
    """Divide the rows of a batch such that all rows with labels of a task are in one part.

    Two tasks are in one part if any row has labels of both. Rows without any label are left out, as they have no loss.

    Args:
        batch: Batch of the collator.
        tasks: Tasks of the model.

    Returns:
        The parts in the order of their first rows. The whole batch, if it cannot be divided: one part has all labels,
        no row has any, or its rows are cut into windows.
    """
    labeled = torch.stack([has_loss(task, batch["labels"][task.name]) for task in tasks]).cpu()
    groups: list[frozenset[int]] = []
    for row in labeled.T.tolist():
        found = frozenset(task for task, is_labeled in enumerate(row) if is_labeled)
        if found and not any(found <= group for group in groups):
            joined = [group for group in groups if group & found]
            groups = [group for group in groups if not group & found] + [found.union(*joined)]
    if len(groups) < 2 or "row_windows" in batch:
        return [BatchPart(batch, frozenset().union(*groups))]
    return [BatchPart(_rows(batch, labeled[sorted(group)].any(0)), group) for group in groups]


def _rows(batch: Batch, mask: torch.Tensor) -> Batch:
    """Return the rows of a mask (batch,)."""
    found: Batch = {}
    for name, value in batch.items():
        if isinstance(value, dict):
            found[name] = _rows(value, mask)
        else:
            found[name] = value[mask.to(value.device)] if isinstance(value, torch.Tensor) else value
    return found
