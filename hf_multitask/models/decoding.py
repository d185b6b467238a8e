"""Decoding of logits: label ids, probabilities and valid tag sequences."""

import torch

from .heads_crf import CRF, TransitionScores, log_marginals, viterbi, word_counts
from .tags_iob2 import OUTSIDE, allowed_transitions
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig


def transition_scores(task: TaskConfig, crf: CRF | None, device: torch.device) -> TransitionScores:
    """Return the scores that the transitions of tag sequences add to their logits.

    Args:
        task: Token task.
        crf: CRF of the task, if it has one.
        device: Device of the scores.

    Returns:
        The CRF's scores, or zeros; with ``constrained_decoding``, ``-inf`` for transitions that IOB2 does not allow.

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    if task.crf and crf is None:
        raise ValueError(f"task {task.name!r} is decoded with its CRF; give it: model.crfs[{task.name!r}].")
    size = task.num_labels
    if crf is None:
        between, ends = torch.zeros(size, size, device=device), torch.zeros(size, device=device)
        scores = TransitionScores(between, ends, ends)
    else:
        scores = crf.scores()
    if task.constrained_decoding:
        forbidden = ~allowed_transitions(tuple(task.labels or ())).to(device)
        between = scores.between.masked_fill(forbidden[:-1], float("-inf"))
        scores = TransitionScores(between, scores.first.masked_fill(forbidden[-1], float("-inf")), scores.last)
    return scores


def decode_tags(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None, crf: CRF | None = None
) -> torch.Tensor:
    """Predict one tag per word; a word without a subword gets ``O``.

    Args:
        task: Token task.
        logits: Scores (batch, num_words, num_labels).
        tag_positions: Index of each word's subword (batch, num_words); -1 for words without a subword and for padding.
        crf: CRF of the task, if it has one.

    Returns:
        Label ids (batch, num_words).

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    scores = transition_scores(task, crf, logits.device)
    if logits.size(1) == 0:
        return logits.new_zeros(logits.shape[:2], dtype=torch.long)
    emissions, counts = _emissions(task, logits, tag_positions)
    if crf is not None:
        ids = viterbi(emissions, scores, counts)
    else:
        ids = emissions.argmax(dim=-1)
        # If the best tag of each word makes a valid sequence, that sequence is the best: only other rows need Viterbi.
        rows = _has_forbidden(ids, scores).nonzero().squeeze(1)
        if len(rows):
            ids[rows] = viterbi(emissions[rows], scores, counts[rows])
    return ids if tag_positions is None else ids.masked_fill(tag_positions < 0, task.label2id[OUTSIDE])


def _has_forbidden(ids: torch.Tensor, scores: TransitionScores) -> torch.Tensor:
    """Return whether each row has a tag that is not allowed at its position (batch,)."""
    has_forbidden_pair = scores.between[ids[:, :-1], ids[:, 1:]].isneginf().any(dim=1)
    return scores.first[ids[:, 0]].isneginf() | has_forbidden_pair


def _emissions(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of each word's tags, only ``O`` without a subword, and the number of words per row."""
    # A constant may be added to all scores of a word: as log-probabilities, their sums stay small in a long row.
    emissions = logits.float().log_softmax(-1)
    if tag_positions is None:
        return emissions, torch.full((len(logits),), logits.size(1), device=logits.device)
    only_outside = torch.full((task.num_labels,), float("-inf"), device=logits.device)
    only_outside[task.label2id[OUTSIDE]] = 0
    has_subword = tag_positions >= 0
    return torch.where(has_subword.unsqueeze(-1), emissions, only_outside), word_counts(has_subword)


def decode(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None = None, crf: CRF | None = None
) -> torch.Tensor:
    """Decode the logits of a task into predictions.

    Args:
        task: Task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        tag_positions: For token tasks, see `decode_tags`.
        crf: For token tasks, see `decode_tags`.

    Returns:
        Label ids (batch,) or (batch, num_words); for multi-label tasks ones and zeros (batch, num_labels), 1 for a
        probability above 0.5; for regression the numbers (batch, num_labels).

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    if task.is_token_task:
        return decode_tags(task, logits, tag_positions, crf)
    if task.problem_type == REGRESSION:
        return logits.float()
    if task.problem_type == MULTI_LABEL:
        return (logits > 0).long()
    return logits.argmax(dim=-1)


def label_probabilities(task: TaskConfig, logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the labels of texts, calibrated by the temperature of the task.

    Args:
        task: Single-label or multi-label task.
        logits: Scores (batch, num_labels).

    Returns:
        Probabilities (batch, num_labels).
    """
    scaled = logits.float() / task.temperature
    return scaled.sigmoid() if task.problem_type == MULTI_LABEL else scaled.softmax(-1)


def log_tag_probabilities(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None, crf: CRF | None = None
) -> torch.Tensor:
    """Return the log-probabilities of all tags of each word, without the temperature of the task.

    With a CRF, they are marginalized over all tag sequences of the row that decoding allows.

    Args:
        task: Token task.
        logits: Scores (batch, num_words, num_labels).
        tag_positions: See `decode_tags`.
        crf: CRF of the task, if it has one.

    Returns:
        Log-probabilities (batch, num_words, num_labels), without meaning at padding.

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    if not task.crf:
        return logits.float().log_softmax(-1)
    emissions, counts = _emissions(task, logits, tag_positions)
    return log_marginals(emissions, transition_scores(task, crf, logits.device), counts)


def tag_probabilities(
    task: TaskConfig, logits: torch.Tensor, ids: torch.Tensor, tag_positions: torch.Tensor, crf: CRF | None = None
) -> torch.Tensor:
    """Return the calibrated probability of each word's tag; 1 for the ``O`` of a word without a subword.

    With a CRF, it is marginalized over all tag sequences of the row that decoding allows. The temperature of the task
    is applied to the marginals, so the decoded sequence does not depend on it.

    Args:
        task: Token task.
        logits: Scores (batch, num_words, num_labels).
        ids: Tags of the words (batch, num_words), as `decode_tags` returns them.
        tag_positions: See `decode_tags`.
        crf: CRF of the task, if it has one.

    Returns:
        Probabilities (batch, num_words).

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    return pick_tags(all_tag_probabilities(task, logits, tag_positions, crf), ids, tag_positions)


def all_tag_probabilities(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None, crf: CRF | None = None
) -> torch.Tensor:
    """Return the calibrated probabilities of all tags of each word, see `tag_probabilities`.

    Args:
        task: Token task.
        logits: Scores (batch, num_words, num_labels).
        tag_positions: See `decode_tags`.
        crf: CRF of the task, if it has one.

    Returns:
        Probabilities (batch, num_words, num_labels), without meaning for words without a subword.

    Raises:
        ValueError: If the task has a CRF and ``crf`` is None.
    """
    if not task.crf:
        return (logits.float() / task.temperature).softmax(-1)
    marginals = log_tag_probabilities(task, logits, tag_positions, crf)
    # Marginals are normalized already, so without a temperature nothing is rounded again.
    return marginals.exp() if task.temperature == 1 else (marginals / task.temperature).softmax(-1)


def pick_tags(probabilities: torch.Tensor, ids: torch.Tensor, tag_positions: torch.Tensor) -> torch.Tensor:
    """Return the probability of one tag per word; 1 for a word without a subword.

    Args:
        probabilities: See `all_tag_probabilities`.
        ids: Tags of the words (batch, num_words).
        tag_positions: See `decode_tags`.
    """
    picked = probabilities.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return picked.masked_fill(tag_positions < 0, 1.0)
