"""A linear-chain conditional random field: scores of whole label sequences (Lafferty, McCallum and Pereira 2001)."""

from typing import NamedTuple

import torch
from torch import nn


class TransitionScores(NamedTuple):
    """What a label sequence scores beside its emissions, in float32; ``-inf`` where something may not be.

    Args:
        between: Score of each label behind each other one (num_labels, num_labels): row ``i``, column ``j`` is that of
            ``j`` behind ``i``.
        first: Score of each label as the first (num_labels,).
        last: Score of each label as the last (num_labels,).
    """

    between: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor


class CRF(nn.Module):
    """The transition scores that a token task learns beside its logits.

    They start at 0, where the labels of a sequence are independent of each other.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.start = nn.Parameter(torch.zeros(num_labels))
        self.end = nn.Parameter(torch.zeros(num_labels))

    def scores(self) -> TransitionScores:
        """Return the scores, in float32 whatever the weights are in."""
        return TransitionScores(self.transitions.float(), self.start.float(), self.end.float())


def word_counts(present: torch.Tensor) -> torch.Tensor:
    """Return the words of each row, up to its last one that is marked.

    Args:
        present: Which words are no padding (batch, num_words); some in a row's middle may not be marked.

    Returns:
        The numbers (batch,).
    """
    places = torch.arange(1, present.size(1) + 1, device=present.device)
    return (present * places).amax(1)


def log_partition(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Sum over all label sequences of each row, by the forward algorithm in log space.

    Args:
        emissions: Scores of each word's labels (batch, num_words, num_labels).
        scores: Scores of transitions.
        counts: Words of each row (batch,); what is behind them does not count.

    Returns:
        The logarithm of the sum of the sequences' exponentiated scores (batch,).
    """
    forward = _forward_scores(emissions, scores, counts)[-1]
    return (forward + scores.last).logsumexp(1)


def log_marginals(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Return how probable each label of each word is, over all sequences, by the forward-backward algorithm.

    Args:
        emissions: See `log_partition`.
        scores: See `log_partition`.
        counts: See `log_partition`.

    Returns:
        Logarithms of the probabilities (batch, num_words, num_labels); of no meaning behind a row's words.
    """
    forward = _forward_scores(emissions, scores, counts)
    backward = [scores.last.expand_as(forward[0])]
    for i in range(emissions.size(1) - 1, 0, -1):
        behind = (scores.between + (backward[-1] + emissions[:, i]).unsqueeze(1)).logsumexp(2)
        backward.append(torch.where((i < counts).unsqueeze(1), behind, backward[-1]))
    joint = torch.stack(forward, dim=1) + torch.stack(backward[::-1], dim=1)
    return joint - joint.logsumexp(2, keepdim=True)


def viterbi(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Find each row's best label sequence.

    Args:
        emissions: See `log_partition`.
        scores: See `log_partition`.
        counts: See `log_partition`.

    Returns:
        Label ids (batch, num_words); of no meaning behind a row's words.
    """
    # By the label behind: maxima along the last dimension, and without their places, are far quicker on a processor.
    before = scores.between.T.contiguous()
    best = [emissions[:, 0] + scores.first]
    for i in range(1, emissions.size(1)):
        found = (best[-1].unsqueeze(1) + before).amax(dim=2) + emissions[:, i]
        best.append(torch.where((i < counts).unsqueeze(1), found, best[-1]))
    path = [(best[-1] + scores.last).argmax(dim=1)]
    for i in range(emissions.size(1) - 1, 0, -1):
        previous = (best[i - 1] + before[path[-1]]).argmax(dim=1)
        path.append(torch.where(i < counts, previous, path[-1]))
    return torch.stack(path[::-1], dim=1)


def _forward_scores(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> list[torch.Tensor]:
    """Sum over the sequences up to each word that end with each label: num_words times (batch, num_labels)."""
    forward = [emissions[:, 0] + scores.first]
    for i in range(1, emissions.size(1)):
        following = (forward[-1].unsqueeze(2) + scores.between).logsumexp(1) + emissions[:, i]
        forward.append(torch.where((i < counts).unsqueeze(1), following, forward[-1]))
    return forward
