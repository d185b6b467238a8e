"""Mistakes of a trained model in slots, by kind and by whether a slot occurs in training."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from transformers import pipeline

from hf_multitask.models.losses import IGNORE_INDEX
from hf_multitask.models.tags_iob2 import tag_spans
from hf_multitask.models.type_aliases import Row
from hf_multitask.reports.class_scores import count_entity_errors, entity_rows


def slot_mistakes(model_dir: str | Path, train_rows: Sequence[Row], test_rows: Sequence[Row]) -> Counter[str]:
    """Count the slots of test rows, and the slots that a model gets wrong.

    Args:
        model_dir: Folder of the model.
        train_rows: Training rows of the model.
        test_rows: Rows to predict.

    Returns:
        ``seen``, the number of slots that occur in a training row with the same label and words; ``unseen``, the
        number of other slots; ``seen_wrong`` and ``unseen_wrong``, how many of them the model misses; and the
        mistakes by kind, see `EntityErrors`.
    """
    # The overloads of transformers list its own tasks only.
    predict = pipeline(  # type: ignore[call-overload]
        "multi-task", model=str(model_dir), tasks=["slots"], word_labels=True
    )
    task = next(task for task in predict.model.config.tasks if task.name == "slots")
    predictions = predict([{"tokens": row["tokens"]} for row in test_rows])
    predicted = _label_ids(task.labels, [prediction["slots"]["labels"] for prediction in predictions])
    gold = _label_ids(task.labels, [row["slots"] for row in test_rows])

    counts = Counter(seen=0, seen_wrong=0, unseen=0, unseen_wrong=0)
    for errors in count_entity_errors(task, predicted, gold).values():
        counts.update(asdict(errors))
    known = {slot for row in train_rows for slot in _slots(row)}
    for entities in entity_rows(task, predicted, gold):
        for span, slot in zip(entities.gold, _slots(test_rows[entities.row]), strict=True):
            group = "seen" if slot in known else "unseen"
            counts[group] += 1
            counts[f"{group}_wrong"] += span not in entities.predicted
    return counts


def _slots(row: Row) -> Iterator[tuple[str, ...]]:
    """Yield the slots of a row: the label, then the words."""
    for span in tag_spans(row["slots"]):
        yield span.label, *row["tokens"][span.start : span.end]


def _label_ids(labels: Sequence[str], rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the label ids of words (num_rows, num_words), with `IGNORE_INDEX` after the last word of a row."""
    ids = np.full((len(rows), max(map(len, rows))), IGNORE_INDEX)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = [labels.index(label) for label in row]
    return ids
