"""Scores of a teacher in the labels of a student."""

import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.models.text_alignment import MIN_LOG_PROBABILITY
from hf_multitask.prediction.teacher_labels import map_labels, map_stock_tags

SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "B-y", "I-x", "I-y"])
INTENT = TaskConfig(
    "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
)


def convert(label_map, probabilities):
    """Convert probabilities of the words of one row by tag; return those above 0.001 by tag."""
    scores = torch.tensor([probabilities]).clamp(min=1e-9).log()
    rows = label_map(scores).exp()[0]
    return [
        {label: round(value, 4) for label, value in zip(SLOTS.labels, row.tolist(), strict=True) if value > 1e-3}
        for row in rows
    ]


def test_labels_are_mapped_by_name():
    scores = torch.tensor([[-1.0, -2.0, -100.0]])
    assert map_labels("t", INTENT, ["c", "a", "b"])(scores).tolist() == [[-2.0, MIN_LOG_PROBABILITY, -1.0]]


def test_numbers_without_names_keep_their_order():
    grade = TaskConfig("grade", "sequence_classification", problem_type="regression")
    assert map_labels("t", grade, None)(torch.tensor([[-100.0]])).tolist() == [[-100.0]]
    with pytest.raises(ValueError, match="task 'grade': expected 1 numbers, found 2"):
        map_labels("t", grade, ["p", "q"])


def test_numbers_with_names_are_mapped_by_name():
    mood = TaskConfig("mood", "sequence_classification", labels=["joy", "fear"], problem_type="regression")
    scores = torch.tensor([[0.25, 0.75]])
    assert map_labels("t", mood, ["fear", "joy"])(scores).tolist() == [[0.75, 0.25]]
    for others in (["LABEL_0", "LABEL_1"], ["joy", "other"]):
        assert map_labels("t", mood, others)(scores).tolist() == [[0.25, 0.75]]


def test_tags_of_iob2_are_mapped_by_name_and_missing_ones_are_practically_impossible():
    label_map = map_stock_tags("t", SLOTS, ["B-y", "I-x", "O", "B-x"])  # without I-y
    assert convert(label_map, [[0.1, 0.2, 0.3, 0.4]]) == [{"O": 0.3, "B-x": 0.4, "B-y": 0.1, "I-x": 0.2}]
    assert label_map(torch.zeros(1, 1, 4))[0, 0, 4] == MIN_LOG_PROBABILITY


@pytest.mark.parametrize("last_and_only", ["LU", "ES"])
def test_last_and_only_words_are_added_to_inside_and_first_words(last_and_only):
    last, only = last_and_only
    label_map = map_stock_tags("t", SLOTS, ["O", "B-x", "I-x", f"{last}-x", f"{only}-x", f"{only}-y"])
    found = convert(label_map, [[0.1, 0.2, 0.15, 0.25, 0.2, 0.1]])
    assert found == [{"O": 0.1, "B-x": 0.4, "B-y": 0.1, "I-x": 0.4}]


@pytest.mark.parametrize("labels", [["O", "I-x", "I-y"], ["O", "x", "y"]])
def test_types_alone_continue_an_entity_with_the_probability_of_the_word_before(labels):
    found = convert(map_stock_tags("t", SLOTS, labels), [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.8]])
    assert found == [{"B-x": 1.0}, {"I-x": 1.0}, {"B-y": 0.8, "I-x": 0.2}]


def test_probabilities_sum_to_one_in_every_scheme():
    probabilities = torch.rand(2, 4, 3).softmax(-1)
    for labels in (["O", "I-x", "I-y"], ["O", "x", "y"]):
        found = map_stock_tags("t", SLOTS, labels)(probabilities.log()).exp()
        assert torch.allclose(found.sum(-1), torch.ones(2, 4), atol=1e-5)


def test_other_labels_are_refused_with_the_difference():
    with pytest.raises(ValueError, match="labels of task 'intent', but it does not have c, and it has besides d"):
        map_labels("t", INTENT, ["a", "b", "d"])
    with pytest.raises(ValueError, match="labels of task 'slots', but it does not have y, and it has besides z"):
        map_stock_tags("t", SLOTS, ["O", "B-x", "I-x", "B-z", "I-z"])
    with pytest.raises(ValueError, match="does not have O, x, y, and it has besides LABEL_0, LABEL_1"):
        map_stock_tags("t", SLOTS, ["LABEL_0", "LABEL_1"])
    # With a prefix that has no type, they are not tags.
    with pytest.raises(ValueError, match="does not have x, y, and it has besides B-x, I-x, B-y, I-y, B-"):
        map_stock_tags("t", SLOTS, ["O", "B-x", "I-x", "B-y", "I-y", "B-"])


def test_at_most_twenty_labels_are_listed():
    for more, ending in (20, "label 19."), (21, "label 19 and 1 more."):
        with pytest.raises(ValueError, match="it has besides label 0, ") as error:
            map_labels("t", INTENT, [*INTENT.labels, *(f"label {i}" for i in range(more))])
        assert str(error.value).endswith(ending)
