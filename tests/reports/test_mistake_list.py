"""Mistakes are found, named, counted and sorted by how sure the model was."""

import numpy as np
import pytest

from hf_multitask import TaskConfig
from hf_multitask.data.labels.unseen_labels import UNSEEN, unseen_id
from hf_multitask.data.row_texts import RowTexts
from hf_multitask.reports.class_scores import count_entity_errors
from hf_multitask.reports.mistake_list import count_mistakes, find_mistakes
from hf_multitask.reports.split_result import SplitResult
from tests.reports.answers import (
    INTENT,
    SLOT_ANSWERS,
    SLOTS,
    TEXTS,
    TOPICS,
    label_answers,
    label_set_answers,
    result,
    tag_answers,
)


def test_wrong_labels_are_sorted_by_the_score_of_the_wrong_answer():
    found = find_mistakes(INTENT, result(intent=label_answers([1, 1, 2, 0], [0.6, 0.7, 0.9, 0.8], [0, 1, 0, -100])))
    assert [(one.row, one.given.label, one.predicted.label) for one in found] == [
        (2, "Play", "Book"),
        (0, "Play", "Rain"),
    ]
    assert [one.score for one in found] == pytest.approx([0.9, 0.6])
    assert {one.kind for one in found} == {"wrong label"}


def test_a_score_that_is_not_a_number_comes_first():
    found = find_mistakes(INTENT, result(intent=label_answers([1, 1, 2, 0], [0.6, 0.7, 0.9, np.nan], [0, 0, 0, 1])))
    assert [one.row for one in found] == [3, 2, 1, 0]


def test_each_wrong_label_of_a_set_is_a_mistake():
    scores = [[0.9, 0.2, 0.1], [0.4, 0.1, 0.1], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]]
    unseen = unseen_id(TOPICS, "sports")
    labels = [[1, 1, 0, 0], [0, 0, 0, unseen], [0, 0, 0, 0], [np.nan] * 4]
    found = find_mistakes(TOPICS, result(topics=label_set_answers(scores, labels)))
    assert [(one.row, one.kind, one.given and one.given.label, one.predicted) for one in found] == [
        (1, "missed", UNSEEN, None),
        (0, "missed", "weather", None),
    ]
    assert found[1].score == pytest.approx(0.8)
    scores[2][2] = 0.7
    (spurious,) = [
        one
        for one in find_mistakes(TOPICS, result(topics=label_set_answers(scores, labels)))
        if one.kind == "spurious"
    ]
    assert (spurious.given, spurious.predicted.label, spurious.score) == (None, "travel", pytest.approx(0.7))


def test_entities_have_their_kind_their_characters_and_the_mean_score_of_their_words():
    found = find_mistakes(SLOTS, result(slots=tag_answers(*SLOT_ANSWERS)))
    shown = [
        (
            one.kind,
            *(span and (span.label, TEXTS[one.row][span.start : span.end]) for span in (one.given, one.predicted)),
        )
        for one in found
    ]
    assert shown == [
        ("missed", ("place", "Paris"), None),
        ("wrong boundaries", ("place", "New York"), ("place", "York")),
        ("wrong type", ("artist", "Miles Davis"), ("place", "Miles Davis")),
        ("spurious", None, ("artist", "stop")),
    ]
    assert [one.score for one in found] == pytest.approx([0.99, 0.95, 0.7, 0.55])


def test_there_are_as_many_mistakes_of_each_kind_as_the_scores_by_class_count():
    generator = np.random.default_rng(0)
    ids, labels = generator.integers(0, 5, (200, 12)), generator.integers(0, 5, (200, 12))
    many = RowTexts()
    many.add([{"tokens": [f"w{i}" for i in range(12)]} for _ in range(200)])
    values = {"ids": ids, "score": generator.random((200, 12)), "count": np.full(200, 12)}
    made = result(slots=(values, labels))
    found = find_mistakes(SLOTS, SplitResult({}, made.output, many))
    errors = count_entity_errors(SLOTS, ids, labels)
    for kind in ("wrong type", "wrong boundaries", "missed", "spurious"):
        expected = sum(getattr(of_type, kind.replace(" ", "_")) for of_type in errors.values())
        assert sum(one.kind == kind for one in found) == expected > 0
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_words_without_a_label_belong_to_no_mistake():
    predicted, gold, scores = ([list(row) for row in part] for part in SLOT_ANSWERS)
    gold[2] = [None, None]
    gold[0][0] = None
    found = find_mistakes(SLOTS, result(slots=tag_answers(predicted, gold, scores)))
    assert [one.row for one in found] == [1, 0, 3]
    assert TEXTS[0][found[1].given.start : found[1].given.end] == "Miles Davis"


def test_a_regression_has_no_mistakes():
    task = TaskConfig("size", "sequence_classification", problem_type="regression")
    assert find_mistakes(task, result(size=({"ids": np.zeros((4, 1))}, np.ones((4, 1))))) == []


def test_the_commonest_mistakes_come_first():
    mistakes = [
        *find_mistakes(INTENT, result(intent=label_answers([1, 1, 2, 0], [0.5] * 4, [0, 0, 0, 1]))),
        *find_mistakes(SLOTS, result(slots=tag_answers(*SLOT_ANSWERS))),
    ]
    counts = count_mistakes(mistakes)
    assert counts[0] == ("intent", "wrong label", "Play", "Rain", 2)
    assert ("slots", "missed", "place", None, 1) in counts
    assert sum(one.mistakes for one in counts) == len(mistakes)
