"""Gaps in the labels of a training are said before it begins."""

import pytest

from hf_multitask import TaskConfig, prepare_datasets
from tests.tiny import ROWS


def without(column, rows):
    return [{**row, column: None} for row in rows]


def test_labels_that_train_never_has_are_named(tokenizer, caplog):
    intents = sorted({row["intent"] for row in ROWS})
    tasks = [
        TaskConfig("intent", "sequence_classification", labels=[*intents, "Never"]),
        TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place", "B-time", "I-time"]),
    ]
    prepare_datasets({"train": ROWS, "validation": ROWS}, tokenizer, tasks)
    assert "train: no row has the labels Never of task 'intent': they will not be learned." in caplog.text
    assert "train: no row has the labels time of task 'slots'" in caplog.text


def test_full_labels_have_no_gap(tokenizer, tasks, caplog):
    prepare_datasets({"train": ROWS, "validation": ROWS}, tokenizer, tasks)
    assert "no row has" not in caplog.text


def test_validation_without_labels_of_a_task_is_named(tokenizer, tasks, caplog):
    prepare_datasets({"train": ROWS, "validation": without("slots", ROWS)}, tokenizer, tasks)
    assert "validation: no row has a label of task 'slots': evaluations do not score it." in caplog.text


def test_validation_without_any_label_is_refused(tokenizer, tasks):
    validation = without("slots", without("intent", ROWS))
    with pytest.raises(ValueError, match="validation: no row has a label of any task"):
        prepare_datasets({"train": ROWS, "validation": validation}, tokenizer, tasks)
