"""From logits to predictions: label ids, probabilities and valid tag sequences."""

import torch

from .tag_schemes import OUTSIDE, allowed_transitions
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig


def viterbi(emissions: torch.Tensor, transitions: torch.Tensor) -> torch.Tensor:
    """Find each row's best label sequence among those whose transitions are allowed.

    Args:
        emissions: Scores (batch, num_words, num_labels).
        transitions: Allowed transitions as `allowed_transitions` returns them (num_labels + 1, num_labels).

    Returns:
        Label ids (batch, num_words).
    """
    emissions = emissions.float()
    penalty = torch.zeros(transitions.shape, device=emissions.device)
    penalty.masked_fill_(~transitions.to(emissions.device), float("-inf"))
    between, first = penalty[:-1], penalty[-1]
    best = emissions[:, 0] + first
    pointers = []
    for i in range(1, emissions.size(1)):
        scores, previous = (best.unsqueeze(2) + between).max(dim=1)
        best = scores + emissions[:, i]
        pointers.append(previous)
    path = [best.argmax(dim=1, keepdim=True)]
    for previous in reversed(pointers):
        path.append(previous.gather(1, path[-1]))
    return torch.cat(path[::-1], dim=1)


def decode_tags(task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None) -> torch.Tensor:
    """Predict one tag a word; a word without a subword is ``O``.

    Args:
        task: A token task.
        logits: Scores (batch, num_words, num_labels).
        tag_positions: Index of each word's subword (batch, num_words), -1 where it has none or the row is padded.

    Returns:
        Label ids (batch, num_words).
    """
    outside = task.label2id[OUTSIDE]
    if logits.size(1) == 0:
        return logits.new_zeros(logits.shape[:2], dtype=torch.long)
    if tag_positions is not None:
        only_outside = torch.full((task.num_labels,), float("-inf"), device=logits.device)
        only_outside[outside] = 0
        logits = torch.where((tag_positions < 0).unsqueeze(-1), only_outside, logits.float())
    if not task.constrained_decoding:
        return logits.argmax(dim=-1)
    return viterbi(logits, allowed_transitions(tuple(task.labels or ())))


def decode(task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None = None) -> torch.Tensor:
    """Reduce a task's logits to what it predicts.

    Args:
        task: The task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        tag_positions: For token tasks, see `decode_tags`.

    Returns:
        Label ids (batch,) or (batch, num_words); zeros and ones (batch, num_labels) for several labels (those whose
        probability is above 0.5); the numbers (batch, num_labels) of a regression.
    """
    if task.is_token_task:
        return decode_tags(task, logits, tag_positions)
    if task.problem_type == REGRESSION:
        return logits.float()
    if task.problem_type == MULTI_LABEL:
        return (logits > 0).long()
    return logits.argmax(dim=-1)


def tag_probabilities(logits: torch.Tensor, ids: torch.Tensor, tag_positions: torch.Tensor) -> torch.Tensor:
    """Return the probability of each word's tag, by itself; 1 for the ``O`` of a word without a subword.

    Args:
        logits: Scores (batch, num_words, num_labels).
        ids: The words' tags (batch, num_words), as `decode_tags` returns them.
        tag_positions: See `decode_tags`.

    Returns:
        Probabilities (batch, num_words).
    """
    picked = logits.float().softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return picked.masked_fill(tag_positions < 0, 1.0)
