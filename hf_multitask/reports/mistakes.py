"""Worst mistakes of a task, prepared for display."""

import math
from collections.abc import Sequence

import numpy as np

from ..data.annotation_records import TextLabel
from ..data.labels.unseen_labels import UNSEEN, is_unseen
from ..models.tags_iob2 import TagSpan
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_inputs import TextInput
from ..runtime.extras import missing_packages
from .class_scores import entity_rows
from .label_issues import EXTRA, find_label_issues
from .mistake_list import find_mistakes
from .page import Example, Paragraph, Part, Piece, Table
from .split_result import SplitResult

# A long text is cut: to characters in a table, to words if entities are marked in it.
MAX_CHARACTERS = 600
MAX_WORDS = 60
WORDS_BEFORE = 15
MAX_NAMES = 12
# Rows of a list of mistakes, or of labels that are most likely wrong.
MAX_MISTAKES = 20
ELLIPSIS = "…"


def worst_rows(task: TaskConfig, result: SplitResult, max_rows: int | None) -> list[tuple[int, float]]:
    """Find the wrong rows, those of whose wrong answer the model was surest first.

    Args:
        task: The task.
        result: Result on a split.
        max_rows: Maximum number of rows to return; all if None.

    Returns:
        Index of each row, and the score of its surest mistake. For a regression, the rows with the largest losses, and
        these.
    """
    if task.problem_type != REGRESSION:
        # The surest mistake of a row comes first.
        scores: dict[int, float] = {}
        for mistake in find_mistakes(task, result):
            scores.setdefault(mistake.row, mistake.score)
        return list(scores.items())[:max_rows]
    labeled = np.flatnonzero(result.is_labeled(task))
    losses = result.losses(task)[labeled]
    # A loss of NaN counts as the worst.
    order = np.argsort(-np.nan_to_num(losses, nan=math.inf, posinf=math.inf), kind="stable")[:max_rows]
    return [(int(labeled[i]), float(losses[i])) for i in order]


def mistake_row(task: TaskConfig, result: SplitResult, row: int, score: float) -> list[str]:
    """Describe a wrong row of a sequence task.

    Args:
        task: The task.
        result: Result on a split.
        row: Index of the row.
        score: Score of the row, from `worst_rows`.

    Returns:
        Cells of a table row: the text (or both texts of a pair), the gold labels, the predicted labels and the score.
    """
    texts = _text_cell(result.texts[row])
    gold, predicted = (_label_text(task, values[row]) for values in (result.labels(task), result.predictions(task)))
    return [texts, gold, predicted, f"{score:.3f}"]


def label_issue_parts(task: TaskConfig, split: str, result: SplitResult) -> list[Part]:
    """Return a table of the rows whose label is most likely wrong, the least probable labels first.

    Args:
        task: The task.
        split: Name of the split.
        result: Result on the split.

    Returns:
        The table, or a sentence that there is no such row; nothing for a regression, and if cleanlab is not installed.
    """
    if task.problem_type == REGRESSION or missing_packages(EXTRA):
        return []
    issues = find_label_issues(task, result)
    if not issues:
        return [Paragraph(f"Confident learning finds no wrong label on {split}.")]
    shown = issues[:MAX_MISTAKES]
    rows = []
    for issue in shown:
        text = result.texts[issue.row]
        labels = [_label_cell(labels, text) for labels in (issue.given, issue.predicted)]
        rows.append([str(issue.row + 1), _text_cell(text), *labels, f"{issue.quality:.3f}"])
    caption = (
        f"Labels that are most likely wrong on {split}, by confident learning: those of {len(issues):,} rows. "
        f"{len(shown)} are shown, the least probable ones first."
    )
    return [Table(["Row", "Labeled text", "Given", "Predicted", "Quality"], rows, caption)]


def _label_cell(labels: Sequence[TextLabel], text: TextInput) -> str:
    parts = [one.label if one.start is None else f"{text.text[one.start : one.end]} = {one.label}" for one in labels]
    more = f" and {len(parts) - MAX_NAMES} more" if len(parts) > MAX_NAMES else ""
    return (", ".join(parts[:MAX_NAMES]) + more) or "none"


def _text_cell(text: TextInput) -> str:
    """Return a text, or both texts of a pair, as the cell of a table."""
    return " ‖ ".join(_shorten(part) for part in (text.text, text.text_pair) if part is not None)


def mistake_examples(task: TaskConfig, result: SplitResult, worst: Sequence[tuple[int, float]]) -> list[Example]:
    """Mark the gold and the predicted entities in the wrong rows of a token task.

    Args:
        task: The task.
        result: Result on a split.
        worst: Rows and scores, from `worst_rows`.

    Returns:
        One example per row.
    """
    rows = [row for row, _ in worst]
    predictions, labels = result.predictions(task)[rows], result.labels(task)[rows]
    examples = []
    for (row, score), entities in zip(worst, entity_rows(task, predictions, labels), strict=True):
        text, i = result.texts[row], entities.row
        words = [word for word in entities.words.tolist() if word < len(text.words)]
        wrong = [word for word in words if predictions[i][word] != labels[i][word]]
        first = max(min(wrong, default=0) - WORDS_BEFORE, 0)
        shown = range(first, min(first + MAX_WORDS, len(text.words)))
        lines = [
            (name, _mark_entities(text, [_to_text_words(span, words) for span in spans], shown))
            for name, spans in (("gold", entities.gold), ("predicted", entities.predicted))
        ]
        if text.text_pair is not None:
            lines.append(("second text", [Piece(_shorten(text.text_pair))]))
        examples.append(Example(f"row {row + 1}, score {score:.3f}", lines))
    return examples


def _to_text_words(span: TagSpan, words: Sequence[int]) -> TagSpan:
    """Convert an entity that counts labeled words into one that counts all words of the text."""
    inside = words[span.start : span.end]
    return span._replace(start=inside[0], end=inside[-1] + 1) if inside else span._replace(start=0, end=0)


def _mark_entities(text: TextInput, spans: Sequence[TagSpan], shown: range) -> list[Piece]:
    """Cut the shown words of a text into pieces, with the entities marked."""
    words = text.words
    if not words:
        return [Piece(text.text)]
    start = words[shown.start].start if shown.start else 0
    end = words[shown.stop - 1].end if shown.stop < len(words) else len(text.text)
    pieces = [Piece(ELLIPSIS + " ")] if shown.start else []
    for span in spans:
        if span.end <= shown.start or span.start >= shown.stop or span.start == span.end:
            continue
        first, last = max(span.start, shown.start), min(span.end, shown.stop)
        pieces.append(Piece(text.text[start : words[first].start]))
        pieces.append(Piece(text.text[words[first].start : words[last - 1].end], span.label))
        start = words[last - 1].end
    pieces.append(Piece(text.text[start:end]))
    if shown.stop < len(words):
        pieces.append(Piece(" " + ELLIPSIS))
    return [piece for piece in pieces if piece.text]


def _label_text(task: TaskConfig, value: np.ndarray) -> str:
    """Return a gold or predicted value of a sequence task as text."""
    names = task.labels or []
    if task.problem_type == REGRESSION:
        numbers = [f"{number:.4g}" for number in value]
        return (
            ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True)) if names else numbers[0]
        )
    if task.problem_type == MULTI_LABEL:
        present = [name for name, is_present in zip(names, value[: len(names)], strict=True) if is_present > 0]
        present += [UNSEEN] * int(is_unseen(value[len(names) :]).sum())
        more = f" and {len(present) - MAX_NAMES} more" if len(present) > MAX_NAMES else ""
        return (", ".join(present[:MAX_NAMES]) + more) or "none"
    return UNSEEN if is_unseen(value) else names[int(value)]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rstrip() + ELLIPSIS
