"""Reduction of predictions on the device: label ids, losses and scores by row in place of logits."""

from collections.abc import Mapping, Sequence

import torch

from ..models.decoding import all_tag_probabilities, decode, label_probabilities, pick_tags
from ..models.heads_crf import CRF
from ..models.heads_scope import SCOPE_END
from ..models.losses import count_labeled, example_losses
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.tasks_constraints import constrain_tags


def reduce_step(
    tasks: Sequence[TaskConfig],
    crfs: Mapping[str, CRF],
    logits: Mapping[str, torch.Tensor],
    labels: dict[str, torch.Tensor] | None,
    tag_positions: torch.Tensor | None,
    loss_only: bool,
) -> tuple[torch.Tensor | None, dict[str, dict[str, torch.Tensor]] | None, dict[str, torch.Tensor] | None]:
    """Return what a prediction step of the Trainer returns.

    Args:
        tasks: See `reduce_predictions`.
        crfs: See `reduce_predictions`.
        logits: See `reduce_predictions`.
        labels: See `reduce_predictions`.
        tag_positions: See `reduce_predictions`.
        loss_only: Whether only the losses are asked for.

    Returns:
        The loss of the batch; by task what `reduce_predictions` returns, or of it only the losses; and the labels.
    """
    predictions = reduce_predictions(tasks, logits, labels, tag_positions, crfs)
    loss = None if labels is None else weighted_loss(tasks, predictions)
    if loss_only:
        return loss, None if labels is None else losses_only(predictions), None
    return loss, predictions, labels


@torch.no_grad()
def reduce_predictions(
    tasks: Sequence[TaskConfig],
    logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor] | None,
    tag_positions: torch.Tensor | None,
    crfs: Mapping[str, CRF],
) -> dict[str, dict[str, torch.Tensor]]:
    """Reduce the logits of a batch to what metrics are computed from.

    Args:
        tasks: Tasks of the model.
        logits: Logits by task.
        labels: Labels by task, None if the rows have none.
        tag_positions: Position of each word's subword (batch, num_words), see `MultiTaskModel.forward`.
        crfs: The CRF of each task that has one.

    Returns:
        By task, ``ids`` as `decode` returns them and, with labels, ``loss`` and ``count`` (batch): the sum of the
        losses of each row, and the number of its labeled items. With labels, also what `calibration_scores` takes:
        see `reduce_scores`.
    """
    predictions = {}
    constrained = constrain_tags(tasks, logits)
    for task in tasks:
        crf = crfs.get(task.name)
        prediction = {"ids": decode(task, constrained[task.name], tag_positions, crf)}
        if labels is not None:
            prediction["loss"] = example_losses(task, logits[task.name], labels[task.name], tag_positions, crf)
            prediction["count"] = count_labeled(task, labels[task.name])
            of_states = logits.get(f"{task.name}{SCOPE_END}")
            found = constrained[task.name], prediction["ids"], labels[task.name]
            scores = reduce_scores(task, *found, tag_positions, crf, of_states)
            prediction |= scores
        predictions[task.name] = prediction
    return predictions


def reduce_scores(
    task: TaskConfig,
    logits: torch.Tensor,
    ids: torch.Tensor,
    labels: torch.Tensor,
    tag_positions: torch.Tensor | None,
    crf: CRF | None = None,
    of_states: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Reduce the logits of a task to calibrated scores, which the losses do not use.

    Args:
        task: The task.
        logits: Its logits.
        ids: Its predictions, as `decode` returns them.
        labels: Its labels.
        tag_positions: See `reduce_predictions`.
        crf: CRF of the task, if it has one.
        of_states: Statistic of the pooled states (batch,), if the task abstains by them.

    Returns:
        Nothing for regression. ``score``: the probability of each word's tag (batch, num_words) of a token task, of
        each label (batch, num_labels) of a multi-label task, or of the predicted label (batch,) of a single-label
        task; of the latter also ``brier`` and ``nll`` (batch,), without meaning for rows without a label, and
        ``statistic`` (batch,) if the task abstains; by its states, once they are fitted. Of a token task also
        ``given``: the probability of the tag that each word has as its label (batch, num_words), without meaning for
        words without a label.
    """
    if task.is_token_task:
        positions = torch.zeros_like(ids) if tag_positions is None else tag_positions
        probabilities = all_tag_probabilities(task, logits, positions, crf)
        return {
            "score": pick_tags(probabilities, ids, positions),
            "given": pick_tags(probabilities, labels.clamp(min=0), positions),
        }
    if task.problem_type == REGRESSION:
        return {}
    probabilities = label_probabilities(task, logits)
    if task.problem_type == MULTI_LABEL:
        return {"score": probabilities}
    abstention = task.abstention
    # Before the fit at the end of a training, distances say nothing.
    has_statistic = abstention is not None and not (abstention.reads_states and abstention.threshold is None)
    scope = {"statistic": abstention.statistic(logits, of_states)} if abstention and has_statistic else {}
    picked = labels.clamp(min=0).unsqueeze(1)
    of_label = probabilities.gather(1, picked).squeeze(1)
    return {
        "score": probabilities.gather(1, ids.unsqueeze(1)).squeeze(1),
        "brier": probabilities.square().sum(1) - 2 * of_label + 1,
        **scope,
        "nll": -(logits.float() / task.temperature).log_softmax(-1).gather(1, picked).squeeze(1),
    }


def losses_only(predictions: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """Return reduced predictions of rows with labels without the ids.

    Args:
        predictions: What `reduce_predictions` returns.
    """
    return {name: {key: values[key] for key in ("loss", "count")} for name, values in predictions.items()}


def weighted_loss(tasks: Sequence[TaskConfig], predictions: Mapping[str, Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Return the loss of a batch: the mean of each task's loss over its items, summed by ``loss_weight``.

    Args:
        tasks: Tasks of the model.
        predictions: Reduced predictions of rows with labels.
    """
    loss = torch.zeros(())
    for task in tasks:
        prediction = predictions[task.name]
        loss = loss + task.loss_weight * prediction["loss"].sum() / prediction["count"].sum().clamp(min=1)
    return loss
