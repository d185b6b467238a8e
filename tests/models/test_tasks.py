"""TaskConfig: fields and invalid values."""

import dataclasses
import json

import pytest
import yaml

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


def test_class_weights_are_by_label_once_the_labels_are_known():
    task = TaskConfig("intent", "sequence_classification", class_weights={"b": 2})
    assert task.class_weights == {"b": 2}
    task = dataclasses.replace(task, labels=["a", "b"])
    assert list(task.class_weights.items()) == [("a", 1.0), ("b", 2.0)]


def test_weights_of_entity_types_are_those_of_both_tags_and_a_tags_own_goes_first():
    given = {"O": 0.1, "PER": 3.0, "I-PER": 2.0, "I-LOC": 5.0}
    task = TaskConfig("ner", "token_classification", labels=["O", "B-PER", "B-LOC"], class_weights=given)
    assert task.class_weights == {"O": 0.1, "B-PER": 3.0, "I-PER": 2.0, "B-LOC": 1.0, "I-LOC": 5.0}


def test_a_task_that_was_saved_without_a_kind_of_head_has_a_linear_one():
    values = TaskConfig("ner", "token_classification").to_dict()
    for name in ("head", "mix_layers", "crf"):
        del values[name]
    task = TaskConfig.from_dict(values).with_defaults()
    assert (task.head, task.mix_layers, task.crf) == ("linear", False, False)


def test_defaults_replace_only_what_is_left_out():
    task = TaskConfig("ner", "token_classification", head="lstm", label_smoothing=0.1)
    assert (task.head, task.mix_layers, task.label_smoothing) == ("lstm", None, 0.1)
    completed = task.with_defaults()
    assert (completed.head, completed.mix_layers, completed.label_smoothing) == ("lstm", False, 0.1)


@pytest.mark.parametrize("labels", [None, ["a", "b"]])
@pytest.mark.parametrize("weights", [None, "balanced", {"a": 0.5}])
def test_weights_and_smoothing_survive_json_and_yaml(weights, labels):
    task = TaskConfig("intent", "sequence_classification", labels, class_weights=weights, label_smoothing=0.1)
    assert TaskConfig.from_dict(json.loads(json.dumps(task.to_dict(), sort_keys=True))) == task
    assert TaskConfig.from_dict(yaml.safe_load(yaml.safe_dump(task.to_dict()))) == task


def test_a_regression_that_is_read_from_the_data_has_no_class_weights():
    task = TaskConfig("grade", "sequence_classification", class_weights="balanced")
    with pytest.raises(ValueError, match="task 'grade': class_weights and label_smoothing are not for regression"):
        dataclasses.replace(task, problem_type="regression")


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
        ({"labels": ["a", 1]}, r"task 'intent': labels\[1\]: expected a string, found 1"),
        ({"labels": []}, "labels is empty"),
        ({"problem_type": "regresion"}, "Did you mean 'regression'"),
        ({"type": "token_classification", "problem_type": "regression"}, "problem_type is for sequence tasks"),
        ({"type": "token_classification", "labels": ["O", "X-y"]}, "'X-y' is not an IOB2 tag"),
        ({"loss_weight": -1.0}, "loss_weight must be a number from 0, found -1.0"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), found 1.0"),
        ({"dropout": "much"}, "dropout: expected a number, found 'much'"),
        ({"class_weights": "balance"}, "task 'intent': unknown class_weights 'balance'. Did you mean 'balanced'"),
        (
            {"class_weights": [1.0]},
            r"class_weights: expected a string, a mapping to numbers or nothing, found \[1.0\]",
        ),
        ({"class_weights": {"a": 0}}, "class_weights of 'a' must be a finite number above 0, found 0"),
        ({"class_weights": {"a": -1.0}}, "must be a finite number above 0, found -1.0"),
        ({"class_weights": {"a": float("inf")}}, "class_weights.a: expected a number, found inf"),
        ({"class_weights": {"a": float("nan")}}, "class_weights.a: expected a number, found nan"),
        ({"class_weights": {"a": "two"}}, "class_weights.a: expected a number, found 'two'"),
        ({"class_weights": {"a": True}}, "class_weights.a: expected a number, found true"),
        ({"class_weights": {1: 2.0}}, "class_weights: key: expected a string, found 1"),
        (
            {"labels": ["music", "rain"], "class_weights": {"musik": 2.0}},
            "task 'intent': unknown label in class_weights 'musik'. Did you mean 'music'",
        ),
        (
            {"type": "token_classification", "labels": ["B-PER"], "class_weights": {"PERS": 2.0}},
            r"unknown label in class_weights 'PERS'. Did you mean 'PER'\? Allowed: 'B-PER', 'O', 'I-PER', 'PER'",
        ),
        ({"problem_type": "regression", "class_weights": {"a": 1.0}}, "class_weights and label_smoothing are not for"),
        ({"problem_type": "regression", "label_smoothing": 0.1}, "class_weights and label_smoothing are not for"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be a number in \[0, 1\), found 1.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must be a number in \[0, 1\), found -0.1"),
        ({"label_smoothing": "some"}, "label_smoothing: expected a number or nothing, found 'some'"),
        ({"label_smoothing": float("nan")}, "label_smoothing: expected a number or nothing, found nan"),
        ({"head": "lstmm"}, r"unknown head 'lstmm'. Did you mean 'lstm'\? Allowed: 'linear', 'lstm'"),
        ({"head": "lstm"}, "task 'intent': head='lstm' is for token tasks; choose 'linear'"),
        ({"head": "mlp"}, "task 'intent': the head 'mlp' was removed .* Use 'linear'; a saved model"),
        ({"type": "token_classification", "head": "mlp"}, "the head 'mlp' was removed .* Use 'linear' or 'lstm'; a"),
        ({"crf": True}, "task 'intent': crf is for token tasks"),
        ({"mix_layers": True}, "task 'intent': mix_layers is for token tasks"),
        ({"type": "token_classification", "crf": "yes"}, "crf: expected true or false, found 'yes'"),
        (
            {"type": "token_classification", "crf": True, "class_weights": "balanced"},
            "class_weights and label_smoothing are for single tags",
        ),
        (
            {"type": "token_classification", "crf": True, "label_smoothing": 0.1},
            "class_weights and label_smoothing are for single tags",
        ),
        ({"lables": ["a"]}, "unknown key 'lables'. Did you mean 'labels'"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        TaskConfig.from_dict({"name": "intent", "type": "sequence_classification", **values})


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="task 'intent': the key 'type' is missing"):
        TaskConfig.from_dict({"name": "intent"})


@pytest.mark.parametrize("value", [0, -1.0])
def test_a_temperature_is_above_0(value):
    with pytest.raises(ValueError, match=r"task 'intent': temperature must be a number above 0"):
        TaskConfig("intent", "sequence_classification", temperature=value)


def test_numbers_have_no_temperature():
    with pytest.raises(ValueError, match=r"temperature is for scores of labels, not for regression"):
        TaskConfig("grade", "sequence_classification", problem_type="regression", temperature=2.0)
