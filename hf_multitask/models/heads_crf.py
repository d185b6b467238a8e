"""Linear-chain conditional random field over label sequences (Lafferty, McCallum and Pereira 2001)."""

from typing import NamedTuple

import torch
from torch import nn


class TransitionScores(NamedTuple):
    """Transition scores, which a label sequence adds to its emissions, in float32; ``-inf`` if not allowed.

    Args:
        between: Score of each pair of neighboring labels (num_labels, num_labels): row ``i``, column ``j`` is the
            score of ``j`` directly after ``i``.
        first: Score of each label at the start of a sequence (num_labels,).
        last: Score of each label at the end of a sequence (num_labels,).
    """

    between: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor


class CRF(nn.Module):
    """Learned transition scores of a token task.

    They start at 0: at first, the labels of a sequence are independent of each other.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.start = nn.Parameter(torch.zeros(num_labels))
        self.end = nn.Parameter(torch.zeros(num_labels))

    def scores(self) -> TransitionScores:
        """Return the scores in float32, whatever the type of the weights."""
        return TransitionScores(self.transitions.float(), self.start.float(), self.end.float())


def word_counts(present: torch.Tensor) -> torch.Tensor:
    """Count the words of each row, up to the last one that is present.

    Args:
        present: Mask of the words that are not padding (batch, num_words). Words before the last one may be masked
            too.

    Returns:
        Numbers of words (batch,).
    """
    numbers = torch.arange(1, present.size(1) + 1, device=present.device)
    return (present * numbers).amax(1)


def log_partition(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Return the log partition of each row, by the forward algorithm in log space.

    Args:
        emissions: Scores of the labels of each word (batch, num_words, num_labels).
        scores: Transition scores.
        counts: Number of words per row (batch,); the positions after them do not count.

    Returns:
        Logarithm of the sum, over all label sequences, of the exponentiated scores (batch,).
    """
    forward = _forward_scores(emissions, scores, counts)[-1]
    return (forward + scores.last).logsumexp(1)


def log_marginals(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Return the log marginal probability of each label of each word, by the forward-backward algorithm.

    Args:
        emissions: See `log_partition`.
        scores: See `log_partition`.
        counts: See `log_partition`.

    Returns:
        Log-probabilities (batch, num_words, num_labels), without meaning after the last word of a row.
    """
    forward = _forward_scores(emissions, scores, counts)
    backward = [scores.last.expand_as(forward[0])]
    for i in range(emissions.size(1) - 1, 0, -1):
        following = (scores.between + (backward[-1] + emissions[:, i]).unsqueeze(1)).logsumexp(2)
        backward.append(torch.where((i < counts).unsqueeze(1), following, backward[-1]))
    joint = torch.stack(forward, dim=1) + torch.stack(backward[::-1], dim=1)
    return joint - joint.logsumexp(2, keepdim=True)


def viterbi(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> torch.Tensor:
    """Return the best label sequence of each row.

    Args:
        emissions: See `log_partition`.
        scores: See `log_partition`.
        counts: See `log_partition`.

    Returns:
        Label ids (batch, num_words), without meaning after the last word of a row.
    """
    # Indexed by the following label: on a CPU, maxima along the last dimension and without indices are far faster.
    before = scores.between.T.contiguous()
    best = [emissions[:, 0] + scores.first]
    for i in range(1, emissions.size(1)):
        following = (best[-1].unsqueeze(1) + before).amax(dim=2) + emissions[:, i]
        best.append(torch.where((i < counts).unsqueeze(1), following, best[-1]))
    path = [(best[-1] + scores.last).argmax(dim=1)]
    for i in range(emissions.size(1) - 1, 0, -1):
        previous = (best[i - 1] + before[path[-1]]).argmax(dim=1)
        path.append(torch.where(i < counts, previous, path[-1]))
    return torch.stack(path[::-1], dim=1)


def _forward_scores(emissions: torch.Tensor, scores: TransitionScores, counts: torch.Tensor) -> list[torch.Tensor]:
    """Return, for each word, the log sum over the sequences that end there with each label (batch, num_labels)."""
    forward = [emissions[:, 0] + scores.first]
    for i in range(1, emissions.size(1)):
        following = (forward[-1].unsqueeze(2) + scores.between).logsumexp(1) + emissions[:, i]
        forward.append(torch.where((i < counts).unsqueeze(1), following, forward[-1]))
    return forward
