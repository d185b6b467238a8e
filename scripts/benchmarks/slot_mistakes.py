"""Which slots a trained model gets wrong: how, and whether training has shown them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import pipeline

from hf_multitask.models.losses import IGNORE_INDEX
from hf_multitask.models.tags_iob2 import tag_spans
from hf_multitask.reports.class_scores import count_entity_errors, entity_rows

Row = Mapping[str, Any]


def slot_mistakes(model_dir: str | Path, train_rows: Sequence[Row], test_rows: Sequence[Row]) -> Counter[str]:
    """Count the slots of test rows, and those that a model gets wrong.

    Args:
        model_dir: Folder of the model.
        train_rows: The rows that it was trained on.
        test_rows: The rows to predict.

    Returns:
        ``seen`` counts the slots that a training row has with the same words, ``unseen`` all others; ``seen_wrong``
        and ``unseen_wrong`` those of them that the model does not find. Beside them the mistakes by kind, see
        `EntityErrors`.
    """
    predict = pipeline("multi-task", model=str(model_dir), tasks=["slots"], word_labels=True)
    task = next(task for task in predict.model.config.tasks if task.name == "slots")
    predictions = predict([{"tokens": row["tokens"]} for row in test_rows])
    found = _label_ids(task.labels, [prediction["slots"]["labels"] for prediction in predictions])
    gold = _label_ids(task.labels, [row["slots"] for row in test_rows])

    counts = Counter(seen=0, seen_wrong=0, unseen=0, unseen_wrong=0)
    for errors in count_entity_errors(task, found, gold).values():
        counts.update(asdict(errors))
    known = {slot for row in train_rows for slot in _slots(row)}
    for entities in entity_rows(task, found, gold):
        for span, slot in zip(entities.gold, _slots(test_rows[entities.row]), strict=True):
            where = "seen" if slot in known else "unseen"
            counts[where] += 1
            counts[f"{where}_wrong"] += span not in entities.predicted
    return counts


def _slots(row: Row) -> Iterator[tuple[str, ...]]:
    """Go through a row's slots: the label, then the words."""
    for span in tag_spans(row["slots"]):
        yield span.label, *row["tokens"][span.start : span.end]


def _label_ids(labels: Sequence[str], rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the ids of words' labels (rows, words), `IGNORE_INDEX` behind the last word."""
    ids = np.full((len(rows), max(map(len, rows))), IGNORE_INDEX)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = [labels.index(label) for label in row]
    return ids
