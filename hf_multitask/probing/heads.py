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
    mean = inputs.mean(1, keepdim=True)
    spread = (inputs - mean).pow(2).mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6)
    center, scale = torch.zeros(1), torch.ones(1)
    if task.problem_type == REGRESSION:
        center, scale = labels.mean(0), labels.std(0, correction=0).clamp(min=1e-6)
        labels = (labels - center) / scale
    weights, biases = _fit(task, (inputs - mean) / spread, labels, _batches(len(labels), size, seed))
    weights = weights * scale.unsqueeze(1) / spread
    biases = biases.squeeze(1) * scale + center - (weights @ mean.transpose(1, 2)).squeeze(2)
    heads = []
    for weight, bias in zip(weights, biases, strict=True):
        head = build_head(task, inputs.size(2), 1).eval()
        head.classifier.weight.data.copy_(weight)
        head.classifier.bias.data.copy_(bias)
        heads.append(head)
    return heads


def _batches(items: int, size: int, seed: int) -> list[torch.Tensor]:
    """Return the items of each step: each pass over them is in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    passes = -(-STEPS * size // items)
    order = torch.cat([torch.randperm(items, generator=generator) for _ in range(passes)])
    return list(order[: STEPS * size].split(size))


@torch.enable_grad()
def _fit(
    task: TaskConfig, inputs: torch.Tensor, labels: torch.Tensor, batches: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Train the heads of all depths, which share nothing but the batches, at once.

    Returns:
        Weights (depths, num_labels, hidden) and biases (depths, 1, num_labels).
    """
    depths, _, hidden = inputs.shape
    weights = torch.zeros(depths, task.num_labels, hidden, requires_grad=True)
    biases = torch.zeros(depths, 1, task.num_labels, requires_grad=True)
    optimizer = torch.optim.AdamW([weights, biases], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    for batch in batches:
        items = labels[batch]
        logits = torch.baddbmm(biases, inputs[:, batch], weights.transpose(1, 2)).flatten(0, 1)
        of_all = items.repeat(depths, *[1] * (items.dim() - 1))
        loss = example_losses(task, logits, of_all).sum() / count_labeled(task, items).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return weights.detach(), biases.detach()


def score_heads(task: TaskConfig, heads: Sequence[LinearHead], states: LayerStates) -> list[float]:
    """Score the head of each depth with the metric of its task.

    Args:
        task: Task with a linear head.
        heads: Its heads, from the bottom up.
        states: States of the held-out rows.

    Returns:
        The scores, from the bottom up.
    """
    return _scores(task, [_predict(task, head, states, depth) for depth, head in enumerate(heads)], states)


def cross_validate_heads(task: TaskConfig, states: LayerStates, folds: torch.Tensor, seed: int) -> list[float]:
    """Score the rows of each fold with heads that are trained on the other folds.

    Args:
        task: Task with a linear head.
        states: States of all rows.
        folds: Fold of each row (rows,).
        seed: Seed of the batches.

    Returns:
        The scores over the rows of all folds together, from the bottom up.
    """
    predictions: list[np.ndarray] = []
    for fold in folds.unique():
        others = states.take(folds != fold)
        # A fold may have all labels of a task that has few.
        if not len(others.of_task(task)[1]):
            continue
        scored = states.take(folds == fold)
        for depth, head in enumerate(fit_heads(task, others, seed)):
            found = _predict(task, head, scored, depth)
            if len(predictions) <= depth:
                predictions.append(np.zeros((len(folds), *found.shape[1:]), found.dtype))
            predictions[depth][(folds == fold).numpy()] = found
    return _scores(task, predictions, states)


def _scores(task: TaskConfig, predictions: Sequence[np.ndarray], states: LayerStates) -> list[float]:
    labels = in_scope_labels(states.labels[task.name].numpy())
    return [task_metrics(task, of_depth, labels)[score_name(task)] for of_depth in predictions]


@torch.no_grad()
def _predict(task: TaskConfig, head: LinearHead, states: LayerStates, depth: int) -> np.ndarray:
    if not task.is_token_task:
        return decode(task, head(states.texts[depth])).numpy()
    logits = torch.zeros(*states.is_word.shape, task.num_labels)
    logits[states.is_word] = head(states.words[depth])
    return decode(task, logits, states.tag_positions).numpy()
