"""Entities below the minimum score of their type are not part of an answer."""

import pytest

from hf_multitask import TaskConfig
from hf_multitask.models.predictor import OutputOptions, Predictor
from hf_multitask.models.tags_iob2 import TagSpan
from hf_multitask.models.tags_min_score import is_sure, min_score_of
from hf_multitask.models.text_inputs import TextInput
from hf_multitask.models.text_words import split_words

LABELS = ["O", "B-x", "I-x", "B-y", "I-y"]


def slots(**values):
    return TaskConfig("slots", "token_classification", LABELS, **values)


@pytest.mark.parametrize(
    ("min_score", "of_x"), [(None, 0.0), (0.7, 0.7), ({"x": 0.6}, 0.6), ({"y": 0.6}, 0.0), (0, 0)]
)
def test_the_minimum_of_a_type(min_score, of_x):
    assert min_score_of(min_score, "x") == of_x


def test_the_score_is_the_mean_of_the_words():
    span = TagSpan("x", 1, 3)
    assert is_sure(span, [0.0, 0.5, 0.75, 0.0], 0.625)
    assert not is_sure(span, [1.0, 0.5, 0.74, 1.0], 0.625)


@pytest.mark.parametrize(
    ("min_score", "of_call", "expected"),
    [
        (None, None, ["x", "y"]),
        (0.75, None, ["y"]),
        ({"y": 0.95}, None, ["x"]),
        ({"x": 0.9, "y": 0.95}, None, []),
        # The value of a call wins, and 0 leaves out nothing.
        (0.75, 0.0, ["x", "y"]),
        (None, 0.75, ["y"]),
    ],
)
def test_answers_leave_out_entities(min_score, of_call, expected):
    predictor = Predictor.__new__(Predictor)
    predictor.options = OutputOptions(min_score=of_call, word_labels=True)
    predictor.schemes = {"slots": "IOB2"}
    text = "play some jazz"
    task = slots(min_score=min_score)
    found = predictor._tag_result(task, TextInput(text, split_words(text), None), [1, 2, 3], [0.8, 0.6, 0.9])
    assert [entity["label"] for entity in found["entities"]] == expected
    tags = {"x": ["B-x", "I-x"], "y": ["B-y"]}
    assert found["labels"] == [
        *(tags["x"] if "x" in expected else ["O", "O"]),
        *(tags["y"] if "y" in expected else ["O"]),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_score": 1.5}, r"task 'slots': min_score must be a number in \[0, 1\], found 1.5"),
        ({"min_score": {"x": -1}}, r"min_score of 'x' must be a number in \[0, 1\], found -1"),
        ({"min_score": {"z": 0.5}}, r"unknown entity type in min_score 'z'. Allowed: 'x', 'y'"),
        ({"min_score": "high"}, r"min_score: expected a number"),
        ({"entity_precision": 95}, r"entity_precision must be a number between 0 and 1, found 95"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        slots(**values)


def test_only_token_tasks_have_them():
    for values in ({"min_score": 0.5}, {"entity_precision": 0.9}):
        with pytest.raises(ValueError, match=r"task 'intent': \w+ is for token tasks"):
            TaskConfig("intent", "sequence_classification", ["a", "b"], **values)
    with pytest.raises(ValueError, match=r"min_score must be a number in \[0, 1\], found 2"):
        OutputOptions(min_score=2)
