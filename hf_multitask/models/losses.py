"""Losses as sums and counts, so that the mean of a task is correct under missing labels, padding and accumulation."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch.nn import functional

from .abstention import ENERGY
from .heads_crf import CRF, log_partition, word_counts
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig

IGNORE_INDEX = -100
# Label of a row that is out of scope of a single-label task, below those of all labels that the task does not have.
OUT_OF_SCOPE = -(2**24)


def is_labeled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Return the mask of the items that count for the loss of a task.

    Args:
        task: Task.
        labels: Labels of a batch. Missing labels are `IGNORE_INDEX`, or NaN for multi-label tasks and regression.
            Labels that the task does not have, which only metrics count, are below `IGNORE_INDEX`; those of a row of a
            multi-label task follow its numbers.

    Returns:
        Booleans with the shape of ``labels``, or (batch, num_labels) for multi-label tasks and regression.
    """
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return ~labels[:, : task.num_labels].isnan()
    return labels > IGNORE_INDEX


def count_labeled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Return the number of items per example that count for the loss of a task: (batch,)."""
    return is_labeled(task, labels).flatten(1).sum(1) if labels.dim() > 1 else is_labeled(task, labels).long()


def is_outlier(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Return whether rows are out of scope of a task and count for its loss: booleans (batch,)."""
    if task.outlier_weight == 0 or not task.has_scope:
        return torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    return labels == OUT_OF_SCOPE


def count_outliers(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Return the number of rows that are out of scope of a task and count for its loss, as a scalar."""
    return is_outlier(task, labels).sum()


def has_loss(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Return whether rows count for the loss of a task, with labels or out of its scope: booleans (batch,)."""
    return (count_labeled(task, labels) > 0) | is_outlier(task, labels)


def outlier_losses(task: TaskConfig, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the losses of rows out of scope, which draw the labels to equal probabilities.

    They are cross entropies to equal probabilities (Hendrycks et al. 2019, section 4). These leave open how large the
    logits are, and with them their energy: with ``energy``, they are mean squares, which draw each logit to 0.

    Args:
        task: The task.
        logits: Scores of a single-label task (batch, num_labels).
        labels: Label ids (batch,).

    Returns:
        Losses (batch,) in float32; 0 for a row in scope.
    """
    logits = logits.float()
    by_energy = task.abstention is not None and task.abstention.method == ENERGY
    losses = logits.square().mean(-1) if by_energy else -logits.log_softmax(-1).mean(-1)
    return torch.where(labels == OUT_OF_SCOPE, losses, 0.0)


def ignore_labels(tasks: Sequence[TaskConfig], labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return labels of the same shapes that do not count for any loss.

    Args:
        tasks: Tasks.
        labels: Labels of a batch by task.

    Returns:
        Labels by task.
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
    """Return the sum of a task's loss over the labeled items of each example.

    The loss is cross entropy for single-label tasks and tags, binary cross entropy for multi-label tasks and squared
    error for regression, with the task's class weights and label smoothing, in training and in evaluation. With a CRF,
    it is the negative log-likelihood of the labels of a row; a word without a label may have any.

    The mean loss is these sums divided by the number of labeled items, with class weights too, because that number
    does not depend on how a batch is cut. PyTorch divides by the sum of the weights instead. With balanced weights,
    both means are equal over the whole training split, where the mean weight is 1.

    Args:
        task: Task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        labels: Label ids (batch,) or (batch, num_words); numbers (batch, num_labels) for multi-label tasks and
            regression.
        tag_positions: With a CRF, the index of each word's subword (batch, num_words); -1 for words without a subword
            and for padding. If None, a row ends with its last labeled word.
        crf: CRF of the task, if it has one.

    Returns:
        Sums (batch,) in float32; 0 for an example without labels.

    Raises:
        ValueError: If the class weights of the task have not been computed yet, or the task has a CRF and ``crf`` is
            None.
    """
    logits = logits.float()
    smoothing = task.label_smoothing or 0.0
    if not labels.is_floating_point():
        labels = labels.clamp(min=IGNORE_INDEX)
    if task.crf:
        if crf is None:
            raise ValueError(f"task {task.name!r} has the loss of its CRF; give it: model.crfs[{task.name!r}].")
        return _sequence_losses(crf, logits, labels, tag_positions)
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        labeled = is_labeled(task, labels)
        targets = labels[:, : task.num_labels].float().masked_fill(~labeled, 0.0)
        if task.problem_type == REGRESSION:
            losses = functional.mse_loss(logits, targets, reduction="none")
        else:
            targets = targets * (1 - smoothing) + smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(
                logits, targets, pos_weight=_class_weights(task, logits.device), reduction="none"
            )
        return losses.masked_fill(~labeled, 0.0).sum(1)
    losses = functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        weight=_class_weights(task, logits.device),
        label_smoothing=smoothing,
        reduction="none",
        ignore_index=IGNORE_INDEX,
    )
    return losses.view(labels.size(0), -1).sum(1)


# A loop over the words of a batch: compiled, it would need one graph per number of words.
@torch.compiler.disable
def _sequence_losses(
    crf: CRF, logits: torch.Tensor, labels: torch.Tensor, tag_positions: torch.Tensor | None
) -> torch.Tensor:
    """Return the negative log-likelihood of each row.

    It is the log partition over all label sequences minus the log partition over the sequences that are consistent
    with the given labels.
    """
    scores = crf.scores()
    present = labels != IGNORE_INDEX if tag_positions is None else tag_positions >= 0
    counts = word_counts(present)
    is_word = torch.arange(labels.size(1), device=labels.device) < counts.unsqueeze(1)
    labels = labels.masked_fill(~is_word, IGNORE_INDEX)
    # A constant may be added to all scores of a word: as log-probabilities, their sums stay small in a long row. Words
    # without a subword have no emission scores.
    emissions = logits.log_softmax(-1).masked_fill(~present.unsqueeze(-1), 0.0)
    label_ids = torch.arange(logits.size(-1), device=labels.device)
    agrees = (labels.unsqueeze(-1) == label_ids) | (labels == IGNORE_INDEX).unsqueeze(-1)
    consistent = emissions.masked_fill(~agrees, float("-inf"))
    of_labels, of_all = log_partition(torch.cat([consistent, emissions]), scores, counts.repeat(2)).chunk(2)
    losses = torch.where((labels != IGNORE_INDEX).any(1), of_all - of_labels, 0.0)
    # Rows of one word use no transition, but DDP waits for the gradient of each weight.
    return losses + 0.0 * scores.between.sum()


def _class_weights(task: TaskConfig, device: torch.device) -> torch.Tensor | None:
    """Return the class weights of a task on a device (num_labels,), or None if it has none.

    Raises:
        ValueError: If they have not been computed from the training split yet.
    """
    if task.class_weights is None:
        return None
    if isinstance(task.class_weights, str):
        raise ValueError(
            f"task {task.name!r}: class_weights={task.class_weights!r} has not been computed yet: take the tasks that "
            "prepare_datasets returns, or give the weights by label."
        )
    return _weight_vector(tuple(task.class_weights[label] for label in task.labels or ()), device)


@lru_cache(maxsize=64)
def _weight_vector(weights: tuple[float, ...], device: torch.device) -> torch.Tensor:
    # A tensor created in inference mode could not be used in training later.
    with torch.inference_mode(False):
        return torch.tensor(weights, dtype=torch.float32, device=device)
