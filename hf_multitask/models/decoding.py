"""From logits to predictions: label ids, probabilities and valid tag sequences."""

import torch

from .heads_crf import CRF, TransitionScores, log_marginals, viterbi, word_counts
from .tags_iob2 import OUTSIDE, allowed_transitions
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig


def transition_scores(task: TaskConfig, crf: CRF | None, device: torch.device) -> TransitionScores:
    """Return what a task's tag sequences score beside their logits.

    Args:
        task: A token task.
        crf: Its CRF, where it has one.
        device: Where the scores are to be.

    Returns:
        The CRF's scores, or zeros; with ``constrained_decoding``, ``-inf`` for what IOB2 does not allow.

    Raises:
        ValueError: If the task has a CRF that is not given.
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
    """Predict one tag a word; a word without a subword is ``O``.

    Args:
        task: A token task.
        logits: Scores (batch, num_words, num_labels).
        tag_positions: Index of each word's subword (batch, num_words), -1 where it has none or the row is padded.
        crf: The task's CRF, where it has one.

    Returns:
        Label ids (batch, num_words).

    Raises:
        ValueError: If the task has a CRF that is not given.
    """
    scores = transition_scores(task, crf, logits.device)
    if logits.size(1) == 0:
        return logits.new_zeros(logits.shape[:2], dtype=torch.long)
    emissions, counts = _emissions(task, logits, tag_positions)
    if crf is not None:
        ids = viterbi(emissions, scores, counts)
    else:
        ids = emissions.argmax(dim=-1)
        # Where the words' best tags are a sequence that may be, it is the best one: only the others need the search.
        rows = _has_forbidden(ids, scores).nonzero().squeeze(1)
        if len(rows):
            ids[rows] = viterbi(emissions[rows], scores, counts[rows])
    return ids if tag_positions is None else ids.masked_fill(tag_positions < 0, task.label2id[OUTSIDE])


def _has_forbidden(ids: torch.Tensor, scores: TransitionScores) -> torch.Tensor:
    """Tell which rows have a tag that may not stand where it does (batch,)."""
    behind_another = scores.between[ids[:, :-1], ids[:, 1:]].isneginf().any(dim=1)
    return scores.first[ids[:, 0]].isneginf() | behind_another


def _emissions(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of each word's tags, only ``O`` where it has no subword, and the words of each row."""
    # A word's scores may all be shifted alike: so shifted, their sums stay small in a long row.
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
    """Reduce a task's logits to what it predicts.

    Args:
        task: The task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        tag_positions: For token tasks, see `decode_tags`.
        crf: The same.

    Returns:
        Label ids (batch,) or (batch, num_words); zeros and ones (batch, num_labels) for several labels (those whose
        probability is above 0.5); the numbers (batch, num_labels) of a regression.

    Raises:
        ValueError: If the task has a CRF that is not given.
    """
    if task.is_token_task:
        return decode_tags(task, logits, tag_positions, crf)
    if task.problem_type == REGRESSION:
        return logits.float()
    if task.problem_type == MULTI_LABEL:
        return (logits > 0).long()
    return logits.argmax(dim=-1)


def tag_probabilities(
    task: TaskConfig, logits: torch.Tensor, ids: torch.Tensor, tag_positions: torch.Tensor, crf: CRF | None = None
) -> torch.Tensor:
    """Return the probability of each word's tag, by itself; 1 for the ``O`` of a word without a subword.

    With a CRF it is the tag's share in all tag sequences of the row that decoding allows.

    Args:
        task: A token task.
        logits: Scores (batch, num_words, num_labels).
        ids: The words' tags (batch, num_words), as `decode_tags` returns them.
        tag_positions: See `decode_tags`.
        crf: The task's CRF, where it has one.

    Returns:
        Probabilities (batch, num_words).

    Raises:
        ValueError: If the task has a CRF that is not given.
    """
    if task.crf:
        emissions, counts = _emissions(task, logits, tag_positions)
        probabilities = log_marginals(emissions, transition_scores(task, crf, logits.device), counts).exp()
    else:
        probabilities = logits.float().softmax(-1)
    picked = probabilities.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return picked.masked_fill(tag_positions < 0, 1.0)
