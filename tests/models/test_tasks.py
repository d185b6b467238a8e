"""The description of a task, and what it refuses."""

import pytest

from hf_multitask import TaskConfig


def test_the_column_defaults_to_the_name():
    assert TaskConfig("intent", "sequence_classification").column == "intent"
    assert TaskConfig("intent", "sequence_classification", column="label").column == "label"


def test_ids_follow_the_order_of_the_labels():
    task = TaskConfig("intent", "sequence_classification", labels=["b", "a"])
    assert task.id2label == {0: "b", 1: "a"}
    assert task.label2id == {"b": 0, "a": 1}
    assert task.num_labels == 2


def test_the_tags_of_a_token_task_are_completed():
    task = TaskConfig("ner", "token_classification", labels=["I-PER", "B-LOC"])
    assert task.labels == ["I-PER", "B-LOC", "O", "I-LOC", "B-PER"]


def test_a_task_survives_a_round_trip():
    task = TaskConfig("ner", "token_classification", labels=["O", "B-x", "I-x"], dropout=0.2, loss_weight=2.0)
    assert TaskConfig.from_dict(task.to_dict()) == task


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"type": "token_clasification"},
            "unknown task type 'token_clasification'. Did you mean 'token_classification'",
        ),
        ({"name": "a b"}, "expected letters, digits and underscores"),
        ({"name": "joint"}, "'joint' is reserved"),
        ({"name": "forward"}, "name of a method"),
        ({"labels": ["a", "a"]}, "labels occur twice: a"),
        ({"labels": ["a", 1]}, "labels must be strings, found 1"),
        ({"labels": []}, "labels is empty"),
        ({"problem_type": "regresion"}, "Did you mean 'regression'"),
        ({"type": "token_classification", "problem_type": "regression"}, "problem_type is for sequence tasks"),
        ({"type": "token_classification", "labels": ["O", "X-y"]}, "'X-y' is no IOB2 tag"),
        ({"loss_weight": -1.0}, "loss_weight must be a number from 0, found -1.0"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), found 1.0"),
        ({"dropout": "0.1"}, r"dropout must be a number in \[0, 1\), found '0.1'"),
        ({"lables": ["a"]}, "unknown key 'lables'. Did you mean 'labels'"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        TaskConfig.from_dict({"name": "intent", "type": "sequence_classification", **values})


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="task 'intent': the key 'type' is missing"):
        TaskConfig.from_dict({"name": "intent"})
