"""Results of a made-up model on made-up rows."""

import numpy as np
from transformers.trainer_utils import PredictionOutput

from hf_multitask import TaskConfig
from hf_multitask.data.row_texts import RowTexts
from hf_multitask.models.losses import IGNORE_INDEX
from hf_multitask.reports.split_result import SplitResult

INTENT = TaskConfig("intent", "sequence_classification", labels=["Play", "Rain", "Book"])
TOPICS = TaskConfig(
    "topics",
    "sequence_classification",
    labels=["music", "weather", "travel"],
    problem_type="multi_label_classification",
)
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place", "B-artist", "I-artist"])

ROWS = [
    {"tokens": ["play", "Miles", "Davis"]},
    {"tokens": ["rain", "in", "New", "York", "?"]},
    {"tokens": ["book", "Paris"]},
    {"tokens": ["stop"]},
]
# Offsets are those of the text, in which two words are joined.
TEXTS = ["play Miles Davis", "rain in  New York?", "book Paris", "stop"]


def texts():
    found = RowTexts()
    found.add([{**row, "text": text} for row, text in zip(ROWS, TEXTS, strict=True)])
    return found


def result(**tasks):
    """Return a result of ``{task: (reduced predictions, labels)}``."""
    predictions = {name: values for name, (values, _) in tasks.items()}
    labels = {name: gold for name, (_, gold) in tasks.items()}
    return SplitResult({}, PredictionOutput(predictions, labels, {}), texts())


def label_answers(ids, scores, labels, given=None):
    """Return the predictions of a single-label task and its labels."""
    labels = np.array(labels)
    given = np.full(len(ids), 0.5) if given is None else np.array(given)
    values = {"ids": np.array(ids), "score": np.array(scores, np.float32), "nll": -np.log(given).astype(np.float32)}
    return {**values, "loss": values["nll"], "count": (labels != IGNORE_INDEX).astype(int)}, labels


def label_set_answers(scores, labels):
    scores, labels = np.array(scores, np.float32), np.array(labels, np.float32)
    values = {"ids": (scores > 0.5).astype(int), "score": scores, "loss": scores.sum(1)}
    return {**values, "count": (~np.isnan(labels)).all(1).astype(int)}, labels


def tag_answers(predicted, gold, scores, given=None):
    """Return the predictions of the token task from tags; None is a word without a label."""
    width = max(map(len, gold))

    def padded(rows, fill, kind):
        return np.array([list(row) + [fill] * (width - len(row)) for row in rows], kind)

    ids = SLOTS.label2id
    labels = padded([[IGNORE_INDEX if tag is None else ids[tag] for tag in row] for row in gold], IGNORE_INDEX, int)
    values = {
        "ids": padded([[ids[tag] for tag in row] for row in predicted], 0, int),
        "score": padded(scores, 1, np.float32),
        "given": padded(scores if given is None else given, 1, np.float32),
    }
    return {**values, "loss": values["score"].sum(1), "count": (labels != IGNORE_INDEX).sum(1)}, labels


# Row 0: wrong type; 1: wrong boundaries; 2: missed; 3: spurious.
SLOT_ANSWERS = (
    [["O", "B-place", "I-place"], ["O", "O", "O", "B-place", "O"], ["O", "O"], ["B-artist"]],
    [["O", "B-artist", "I-artist"], ["O", "O", "B-place", "I-place", "O"], ["O", "B-place"], ["O"]],
    [[0.9, 0.8, 0.6], [0.9, 0.9, 0.5, 0.95, 0.9], [0.9, 0.99], [0.55]],
)
