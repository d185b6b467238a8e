"""Rows of a batch, divided by the tasks that they have labels of."""

import math

import torch

from hf_multitask import TaskConfig
from hf_multitask.models.losses import IGNORE_INDEX, OUT_OF_SCOPE
from hf_multitask.training.batch_split import split_by_tasks

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"])
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])
TOPICS = TaskConfig("topics", "sequence_classification", labels=["c", "d"], problem_type="multi_label_classification")
TASKS = [INTENT, SLOTS, TOPICS]


def batch(intent, slots, topics, **more):
    """Return a batch of rows of two words, of which the first has a slot. Labels that are missing are None."""
    labels = {
        "intent": torch.tensor([IGNORE_INDEX if label is None else label for label in intent]),
        "slots": torch.tensor([[IGNORE_INDEX if label is None else label, IGNORE_INDEX] for label in slots]),
        "topics": torch.tensor([[math.nan, math.nan] if label is None else label for label in topics]),
    }
    ids = torch.arange(2 * len(intent)).reshape(-1, 2)
    return {"input_ids": ids, "tag_positions": ids % 2, "labels": labels, "entering": "encoder.1", **more}


def rows_and_tasks(given, tasks=TASKS):
    parts = split_by_tasks(given, tasks)
    return [((part.inputs["input_ids"][:, 0] // 2).tolist(), sorted(part.tasks)) for part in parts]


def test_tasks_without_common_rows_are_apart():
    given = batch([None, 1, None, 0, None], [2, None, None, None, 0], [None, None, [0, 1], None, None])
    assert rows_and_tasks(given) == [([0, 4], [1]), ([1, 3], [0]), ([2], [2])]
    first, second, _ = split_by_tasks(given, TASKS)
    assert first.inputs["tag_positions"].tolist() == [[0, 1], [0, 1]]
    assert first.inputs["labels"]["slots"].tolist() == [[2, IGNORE_INDEX], [0, IGNORE_INDEX]]
    assert second.inputs["labels"]["intent"].tolist() == [1, 0]
    assert second.inputs["entering"] == "encoder.1"


def test_tasks_that_meet_in_a_row_stay_together():
    given = batch([0, None, 1, None], [None, 0, 1, None], [None, None, None, [1, 0]])
    assert rows_and_tasks(given) == [([0, 1, 2], [0, 1]), ([3], [2])]
    # Two tasks meet by a third one.
    given = batch([0, 1, None, None], [1, None, 1, None], [None, None, [1, 0], [1, 0]])
    assert rows_and_tasks(given) == [([0, 1, 2, 3], [0, 1, 2])]


def test_rows_without_labels_are_left_out():
    given = batch([None, 0, None], [None, None, 1], [None, None, None])
    assert rows_and_tasks(given) == [([1], [0]), ([2], [1])]


def test_a_batch_that_cannot_be_divided_is_whole():
    given = batch([0, None], [None, None], [None, None])
    assert rows_and_tasks(given) == [([0, 1], [0])]
    given = batch([None, None], [None, None], [None, None])
    assert rows_and_tasks(given) == [([0, 1], [])]
    given = batch([0, None], [None, 1], [None, None], row_windows=torch.ones(2, 1))
    assert rows_and_tasks(given) == [([0, 1], [0, 1])]
    assert split_by_tasks(given, TASKS)[0].inputs is given


def test_a_row_out_of_scope_is_one_of_its_task():
    scoped = TaskConfig("intent", "sequence_classification", labels=["a", "b"], out_of_scope="oos", outlier_weight=0.5)
    given = batch([OUT_OF_SCOPE, None], [None, 1], [None, None])
    assert rows_and_tasks(given, [scoped, SLOTS, TOPICS]) == [([0], [0]), ([1], [1])]
    assert rows_and_tasks(given) == [([0, 1], [1])]
