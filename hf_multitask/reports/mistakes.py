"""The rows that a task gets most wrong, as they are shown to who is to learn from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import TagSpan
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_inputs import TextInput
from ..training.metrics import rows_right
from .class_scores import entity_rows
from .page import Example, Piece

# What is shown of a long text: characters where it is shown whole, words where entities are marked in it.
MAX_CHARACTERS = 600
MAX_WORDS = 60
WORDS_BEFORE = 15
MAX_NAMES = 12
CUT = "…"


def worst_rows(task: TaskConfig, output: Any, count: int) -> list[tuple[int, float]]:
    """Find the rows that are wrong with the highest loss: those that the model was most sure of.

    Args:
        task: The task.
        output: ``predictions`` and ``label_ids`` by task, as `MultiTaskTrainer.predict` returns them.
        count: The most rows to return.

    Returns:
        Number and mean loss of each row, the worst first. Of a regression, the rows with the largest errors.
    """
    found = output.predictions[task.name]
    if task.problem_type == REGRESSION:
        wrong = np.flatnonzero(found["count"] > 0)
    else:
        wrong = np.flatnonzero(rows_right(task, output) == 0)
    losses = found["loss"][wrong].astype(np.float64) / np.maximum(found["count"][wrong], 1)
    # A loss that is no number is worse than any.
    order = np.argsort(-np.nan_to_num(losses, nan=math.inf, posinf=math.inf), kind="stable")[:count]
    return [(int(wrong[i]), float(losses[i])) for i in order]


def mistake_row(task: TaskConfig, output: Any, row: int, loss: float, text: TextInput) -> list[str]:
    """Describe a row of a sequence task that is wrong.

    Args:
        task: The task.
        output: See `worst_rows`.
        row: Number of the row.
        loss: Its loss.
        text: Its text.

    Returns:
        The text, of a pair both, the gold labels, the predicted ones and the loss.
    """
    gold, found = output.label_ids[task.name][row], output.predictions[task.name]["ids"][row]
    texts = " ‖ ".join(_cut(part) for part in (text.text, text.text_pair) if part is not None)
    return [texts, _label_text(task, gold), _label_text(task, found), f"{loss:.3f}"]


def mistake_examples(
    task: TaskConfig, output: Any, worst: Sequence[tuple[int, float]], texts: Mapping[int, TextInput]
) -> list[Example]:
    """Mark gold and predicted entities in the rows of a token task that are wrong.

    Args:
        task: The task.
        output: See `worst_rows`.
        worst: What `worst_rows` returns.
        texts: The texts of these rows.

    Returns:
        An example for each row.
    """
    numbers = [row for row, _ in worst]
    found, labels = output.predictions[task.name]["ids"], output.label_ids[task.name]
    entities = {numbers[item.row]: item for item in entity_rows(task, found[numbers], labels[numbers])}
    examples = []
    for row, loss in worst:
        text, item = texts[row], entities[row]
        words = [i for i in item.words.tolist() if i < len(text.words)]
        gold, predicted = ([_in_words(span, words) for span in spans] for spans in (item.gold, item.predicted))
        wrong = [i for i in words if found[row][i] != labels[row][i] and labels[row][i] != IGNORE_INDEX]
        first = max(min(wrong, default=0) - WORDS_BEFORE, 0)
        shown = range(first, min(first + MAX_WORDS, len(text.words)))
        lines = [("gold", _marked(text, gold, shown)), ("predicted", _marked(text, predicted, shown))]
        if text.text_pair is not None:
            lines.append(("second text", [Piece(_cut(text.text_pair))]))
        examples.append(Example(f"row {row + 1}, loss a word {loss:.3f}", lines))
    return examples


def _in_words(span: TagSpan, words: Sequence[int]) -> TagSpan:
    """Turn an entity that counts labelled words into one that counts all words."""
    inside = words[span.start : span.end]
    return span._replace(start=inside[0], end=inside[-1] + 1) if inside else span._replace(start=0, end=0)


def _marked(text: TextInput, spans: Sequence[TagSpan], shown: range) -> list[Piece]:
    """Cut the shown words of a text into pieces, entities marked."""
    words = text.words
    if not words:
        return [Piece(text.text)]
    start = words[shown.start].start if shown.start else 0
    end = words[shown.stop - 1].end if shown.stop < len(words) else len(text.text)
    pieces = [Piece(CUT + " ")] if shown.start else []
    for span in spans:
        if span.end <= shown.start or span.start >= shown.stop or span.start == span.end:
            continue
        first, last = max(span.start, shown.start), min(span.end, shown.stop)
        pieces.append(Piece(text.text[start : words[first].start]))
        pieces.append(Piece(text.text[words[first].start : words[last - 1].end], span.label))
        start = words[last - 1].end
    pieces.append(Piece(text.text[start:end]))
    if shown.stop < len(words):
        pieces.append(Piece(" " + CUT))
    return [piece for piece in pieces if piece.text]


def _label_text(task: TaskConfig, value: Any) -> str:
    """Write a gold or predicted value of a sequence task."""
    names = task.labels or []
    if task.problem_type == REGRESSION:
        numbers = [f"{number:.4g}" for number in value]
        return (
            ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True)) if names else numbers[0]
        )
    if task.problem_type == MULTI_LABEL:
        present = [name for name, is_there in zip(names, value, strict=True) if is_there > 0]
        more = f" and {len(present) - MAX_NAMES} more" if len(present) > MAX_NAMES else ""
        return (", ".join(present[:MAX_NAMES]) + more) or "none"
    return names[int(value)]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rstrip() + CUT
