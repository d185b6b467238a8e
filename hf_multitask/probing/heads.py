"""Linear heads on stored states: how they are trained, and how they are scored."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..data.labels.unseen_labels import in_scope_labels
from ..models.decoding import decode
from ..models.heads import LinearHead, build_head
from ..models.losses import count_labeled, example_losses
from ..models.tasks import LINEAR_HEAD, REGRESSION, TaskConfig
from ..training.metrics import metric_of, task_metrics
from .states import LayerStates

# The same for every depth and task. Few steps from zero keep weights small, which few rows need.
STEPS, LEARNING_RATE, WEIGHT_DECAY = 300, 1e-2, 1e-2
TEXTS_PER_STEP, WORDS_PER_STEP = 64, 512


def linear_task(task: TaskConfig) -> TaskConfig:
    """Return a task with a plain linear head, without dropout."""
    return replace(
        task, head=LINEAR_HEAD, crf=False, mix_layers=False, dropout=0.0, label_smoothing=0.0
    ).with_defaults()


def score_name(task: TaskConfig) -> str:
    """Return the name of the metric by which the heads of a task are compared."""
    return "mse" if task.problem_type == REGRESSION else metric_of(task).main_metric


def fit_heads(task: TaskConfig, states: LayerStates, seed: int) -> list[LinearHead]:
    """Train a head on the states of each depth.

    All depths get the same batches, and their states are brought to mean 0 and one mean variance, which is part of the
    linear layer afterwards: the size of states grows with the depth in many encoders, and would decide which head
    learns fast. Dimensions keep their sizes relative to each other: one that hardly varies would get huge gradients.

    Args:
        task: Task with a linear head.
        states: States of the training rows.
        seed: Seed of the batches.

    Returns:
        The heads, from the bottom up.
    """
    inputs, labels = states.of_task(task)
    size = min(WORDS_PER_STEP if task.is_token_task else TEXTS_PER_STEP, len(labels))
    batches = _batches(len(labels), size, seed)
    return [_fit(task, of_depth, labels, batches) for of_depth in inputs]


def _batches(items: int, size: int, seed: int) -> list[torch.Tensor]:
    """Return the items of each step: each pass over them is in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    passes = -(-STEPS * size // items)
    order = torch.cat([torch.randperm(items, generator=generator) for _ in range(passes)])
    return list(order[: STEPS * size].split(size))


@torch.enable_grad()
def _fit(task: TaskConfig, inputs: torch.Tensor, labels: torch.Tensor, batches: Sequence[torch.Tensor]) -> LinearHead:
    mean = inputs.mean(0)
    spread = (inputs - mean).pow(2).mean().sqrt().clamp(min=1e-6)
    center, scale = torch.zeros(1), torch.ones(1)
    if task.problem_type == REGRESSION:
        center, scale = labels.mean(0), labels.std(0, correction=0).clamp(min=1e-6)
        labels = (labels - center) / scale
    inputs = (inputs - mean) / spread
    head = build_head(task, inputs.size(1), 1)
    torch.nn.init.zeros_(head.classifier.weight)
    torch.nn.init.zeros_(head.classifier.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    for batch in batches:
        items = labels[batch]
        loss = example_losses(task, head(inputs[batch]), items).sum() / count_labeled(task, items).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        weight = head.classifier.weight * scale.unsqueeze(1) / spread
        head.classifier.bias.copy_(head.classifier.bias * scale + center - weight @ mean)
        head.classifier.weight.copy_(weight)
    return head.eval()


@torch.no_grad()
def score_heads(task: TaskConfig, heads: Sequence[LinearHead], states: LayerStates) -> list[float]:
    """Score the head of each depth with the metric of its task.

    Args:
        task: Task with a linear head.
        heads: Its heads, from the bottom up.
        states: States of the held-out rows.

    Returns:
        The scores, from the bottom up.
    """
    labels = in_scope_labels(states.labels[task.name].numpy())
    return [
        task_metrics(task, _predict(task, head, states, depth), labels)[score_name(task)]
        for depth, head in enumerate(heads)
    ]


def _predict(task: TaskConfig, head: LinearHead, states: LayerStates, depth: int) -> np.ndarray:
    if not task.is_token_task:
        return decode(task, head(states.texts[depth])).numpy()
    logits = torch.zeros(*states.is_word.shape, task.num_labels)
    logits[states.is_word] = head(states.words[depth])
    return decode(task, logits, states.tag_positions).numpy()
