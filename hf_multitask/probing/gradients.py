"""Gradients of a task's loss on the layers, relative to the weights (Lee et al. 2023, surgical fine-tuning)."""

from collections.abc import Sequence

import torch

from ..models import MultiTaskModel
from ..models.collator import MultiTaskDataCollator
from ..models.layer_groups import layer_groups
from ..models.losses import count_labeled
from ..models.tasks import TaskConfig
from ..models.token_batches import cut_batches, rows_per_batch
from ..models.type_aliases import Batch, Row

# Rows of a task whose gradients are added: a few batches of a training.
MAX_ROWS = 128
TOKENS_PER_PASS = 1024


def gradient_ratios(
    model: MultiTaskModel, rows: list[Row], collator: MultiTaskDataCollator, task: TaskConfig
) -> dict[str, float]:
    """Return the norm of the gradient of the mean loss divided by the norm of the weights, by layer group.

    Args:
        model: The model, in eval mode, with trained heads.
        rows: Prepared rows with labels of the task.
        collator: Collator of the rows.
        task: The task.

    Returns:
        Ratios of the groups of the encoder that train, from the bottom up.
    """
    weights = {
        group.layer: trained
        for group in layer_groups(model).undivided()
        if not group.is_head and (trained := [weight for weight in group.parameters.values() if weight.requires_grad])
    }
    flat = [weight for group in weights.values() for weight in group]
    sums = [torch.zeros_like(weight) for weight in flat]
    rows = sorted(rows, key=lambda row: -len(row["input_ids"]))
    sizes = rows_per_batch([len(row["input_ids"]) for row in rows], TOKENS_PER_PASS)
    items = 0
    for start, end in cut_batches(sizes.tolist()):
        batch = collator(rows[start:end])
        items += int(count_labeled(task, batch["labels"][task.name]).sum())
        loss = _loss(model, batch, task)
        for total, part in zip(sums, torch.autograd.grad(loss, flat, allow_unused=True), strict=True):
            if part is not None:
                total.add_(part)
    ratios, first = {}, 0
    for name, group in weights.items():
        last = first + len(group)
        size = _norm(group)
        if size > 0:
            ratios[name] = _norm(sums[first:last]) / max(items, 1) / size
        first = last
    return ratios


def _loss(model: MultiTaskModel, batch: Batch, task: TaskConfig) -> torch.Tensor:
    """Return the sum of the losses of a batch, whose gradients can be added."""
    labels = {task.name: batch["labels"][task.name].to(model.device)}
    inputs = {name: value.to(model.device) for name, value in batch.items() if name not in ("labels", "row_numbers")}
    one = {task.name: torch.ones((), device=model.device)}
    with torch.enable_grad():
        output = model(**inputs, labels=labels, num_items_in_batch=one, tasks=[task.name], return_dict=True)
    return output.losses[task.name]


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return torch.stack([tensor.detach().float().norm() for tensor in tensors]).norm().item()
