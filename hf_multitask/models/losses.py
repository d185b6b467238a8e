"""Losses as sums and counts, so that each task's mean is right whatever is missing, padded or accumulated."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch.nn import functional

from .heads_crf import CRF, log_partition, word_counts
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig

IGNORE_INDEX = -100


def is_labelled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Tell which items of a batch count for a task's loss.

    Args:
        task: The task.
        labels: The batch's labels. Missing ones are `IGNORE_INDEX`, or NaN where labels are numbers.

    Returns:
        Booleans of the shape of ``labels``.
    """
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return ~labels.isnan()
    return labels != IGNORE_INDEX


def count_labelled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Count the items of each example that count for a task's loss: (batch,)."""
    return is_labelled(task, labels).flatten(1).sum(1) if labels.dim() > 1 else is_labelled(task, labels).long()


def ignore_labels(tasks: Sequence[TaskConfig], labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return labels of the same shape that count for no loss.

    Args:
        tasks: The tasks.
        labels: The batch's labels by task.

    Returns:
        The labels by task.
    """
    ignored = {
        task.name: math.nan if task.problem_type in (MULTI_LABEL, REGRESSION) else IGNORE_INDEX for task in tasks
    }
    return {name: torch.full_like(value, ignored[name]) for name, value in labels.items()}


def example_losses(
    task: TaskConfig,
    logits: torch.Tensor,
    labels: torch.Tensor,
    tag_positions: torch.Tensor | None = None,
    crf: CRF | None = None,
) -> torch.Tensor:
    """Sum a task's loss over the labelled items of each example.

    Cross entropy for one label of several, binary cross entropy for each of several labels, squared error for
    numbers; with the task's class weights and label smoothing, in training and in evaluation alike. With a CRF it is
    the negative log-likelihood of a row's labels; a word without one may have any.

    The mean is these sums over the number of labelled items, with class weights too: that number does not depend on
    how a batch is cut. Torch divides by the sum of the weights instead. With balanced weights both are the same over
    the whole of train, where the mean weight is 1.

    Args:
        task: The task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        labels: Label ids (batch,) or (batch, num_words); numbers (batch, num_labels) for several labels and
            regression.
        tag_positions: With a CRF, the index of each word's subword (batch, num_words), -1 where it has none or the
            row is padded. Rows end with their last labelled word where None.
        crf: The task's CRF, where it has one.

    Returns:
        Sums (batch,) in float32; 0 where an example has no label.

    Raises:
        ValueError: If the task's class weights are not worked out yet, or it has a CRF that is not given.
    """
    logits = logits.float()
    if task.crf:
        if crf is None:
            raise ValueError(f"task {task.name!r} has a loss of its CRF; give it: model.crfs[{task.name!r}].")
        return _sequence_losses(crf, logits, labels, tag_positions)
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        labelled = is_labelled(task, labels)
        targets = labels.float().masked_fill(~labelled, 0.0)
        if task.problem_type == REGRESSION:
            losses = functional.mse_loss(logits, targets, reduction="none")
        else:
            targets = targets * (1 - task.label_smoothing) + task.label_smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(
                logits, targets, pos_weight=_class_weights(task, logits.device), reduction="none"
            )
        return losses.masked_fill(~labelled, 0.0).sum(1)
    losses = functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        weight=_class_weights(task, logits.device),
        label_smoothing=task.label_smoothing,
        reduction="none",
        ignore_index=IGNORE_INDEX,
    )
    return losses.view(labels.size(0), -1).sum(1)


# One loop over the words of each batch: compiled, it would be a graph for every number of words.
@torch.compiler.disable
def _sequence_losses(
    crf: CRF, logits: torch.Tensor, labels: torch.Tensor, tag_positions: torch.Tensor | None
) -> torch.Tensor:
    """Return each row's negative log-likelihood: of all label sequences less of those that have the labels given."""
    scores = crf.scores()
    present = labels != IGNORE_INDEX if tag_positions is None else tag_positions >= 0
    counts = word_counts(present)
    is_word = torch.arange(labels.size(1), device=labels.device) < counts.unsqueeze(1)
    labels = labels.masked_fill(~is_word, IGNORE_INDEX)
    # A word's scores may all be shifted alike: so shifted, their sums stay small in a long row. What has no subword
    # has no score of its own.
    emissions = logits.log_softmax(-1).masked_fill(~present.unsqueeze(-1), 0.0)
    names = torch.arange(logits.size(-1), device=labels.device)
    agrees = (labels.unsqueeze(-1) == names) | (labels == IGNORE_INDEX).unsqueeze(-1)
    given = emissions.masked_fill(~agrees, float("-inf"))
    wanted, every = log_partition(torch.cat([given, emissions]), scores, counts.repeat(2)).chunk(2)
    losses = torch.where((labels != IGNORE_INDEX).any(1), every - wanted, 0.0)
    # Rows of one word have no transition: DDP waits for the gradient of each weight.
    return losses + 0.0 * scores.between.sum()


def _class_weights(task: TaskConfig, device: torch.device) -> torch.Tensor | None:
    """Return a task's class weights on a device (num_labels,), None where it has none.

    Raises:
        ValueError: If they are still to be worked out from train.
    """
    if task.class_weights is None:
        return None
    if isinstance(task.class_weights, str):
        raise ValueError(
            f"task {task.name!r}: class_weights={task.class_weights!r} is not worked out yet: take the tasks that "
            "prepare_datasets returns, or give the weights by label."
        )
    return _weight_vector(tuple(task.class_weights[label] for label in task.labels or ()), device)


@lru_cache(maxsize=64)
def _weight_vector(weights: tuple[float, ...], device: torch.device) -> torch.Tensor:
    # A tensor that is made in inference mode could not be used in training afterwards.
    with torch.inference_mode(False):
        return torch.tensor(weights, dtype=torch.float32, device=device)
