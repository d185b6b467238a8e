"""Labels that were exchanged are found, whatever the kind of task."""

import numpy as np
import pytest

from hf_multitask.models.losses import IGNORE_INDEX
from hf_multitask.reports.label_issues import find_label_issues, rank_labels, spread_probabilities
from hf_multitask.reports.mistakes import label_issue_parts
from hf_multitask.reports.split_result import SplitResult
from tests.reports.answers import INTENT, SLOTS, TOPICS, label_answers, label_set_answers, result

ROWS = 120


def many(task, values, labels, words=None):
    """Return a result on many rows, whose texts are not read."""
    made = result(**{task.name: (values, labels)})
    texts = type(made.texts)()
    texts.add([{"tokens": words or ["word"]} for _ in labels])
    return SplitResult({}, made.output, texts)


@pytest.fixture
def intents():
    """Return rows of which every 20th has another label than the model is sure of."""
    truth = np.arange(ROWS) % 3
    labels = truth.copy()
    wrong = np.arange(0, ROWS, 20)
    labels[wrong] = (truth[wrong] + 1) % 3
    given = np.where(labels == truth, 0.9, 0.02 + np.arange(ROWS) / 10_000)
    values, _ = label_answers(truth, np.full(ROWS, 0.9), labels, given)
    return values, labels, wrong


def test_exchanged_labels_are_found_and_come_first(intents):
    values, labels, wrong = intents
    issues = find_label_issues(INTENT, many(INTENT, values, labels))
    assert [issue.row for issue in issues] == wrong.tolist()
    assert [issue.quality for issue in issues] == pytest.approx((0.02 + wrong / 10_000).tolist(), abs=1e-3)
    assert issues[0].given[0].label == "Rain"
    assert issues[0].predicted[0].label == "Play"


def test_a_share_of_the_rows_is_listed_with_those_that_are_found(intents):
    values, labels, wrong = intents
    issues = find_label_issues(INTENT, many(INTENT, values, labels), share=0.1)
    assert [issue.row for issue in issues[:6]] == wrong.tolist()
    assert [issue.is_confident for issue in issues] == [True] * 6 + [False] * 6
    assert len(find_label_issues(INTENT, many(INTENT, values, labels), share=0.02)) == 6


def test_the_report_lists_them(intents, monkeypatch):
    values, labels, wrong = intents
    made = many(INTENT, values, labels)
    (table,) = label_issue_parts(INTENT, "validation", made)
    assert table.rows[0] == ["1", "word", "Rain", "Play", "0.020"]
    assert [int(row[0]) - 1 for row in table.rows] == wrong.tolist()
    assert "those of 6 rows" in table.caption
    monkeypatch.setattr("hf_multitask.reports.mistakes.missing_packages", lambda extra: ["cleanlab"])
    assert label_issue_parts(INTENT, "validation", made) == []


def test_nothing_is_found_in_right_labels(intents):
    values, _, _ = intents
    right = values["ids"]
    values["nll"] = np.full(ROWS, -np.log(0.9))
    assert find_label_issues(INTENT, many(INTENT, values, right)) == []


def test_rows_without_a_label_or_a_finite_score_are_not_ranked(intents):
    values, labels, _ = intents
    labels[1:20] = IGNORE_INDEX
    values["nll"][30] = np.nan
    ranking = rank_labels(INTENT, many(INTENT, values, labels))
    assert sorted(ranking.rows) == [0, *range(20, 30), *range(31, ROWS)]
    none = np.full(ROWS, IGNORE_INDEX)
    assert len(rank_labels(INTENT, many(INTENT, values, none)).rows) == 0


def test_a_single_class_has_no_issues(intents):
    values, labels, _ = intents
    assert find_label_issues(INTENT, many(INTENT, values, np.zeros_like(labels))) == []


def test_a_label_too_many_and_a_label_too_few_are_found():
    truth = np.eye(3)[np.arange(ROWS) % 3]
    labels = truth.copy()
    labels[0], labels[1] = [1, 1, 0], [0, 0, 0]
    labels[2] = np.nan
    values, labels = label_set_answers(np.where(truth > 0, 0.95, 0.05), labels)
    issues = find_label_issues(TOPICS, many(TOPICS, values, labels))
    assert {issue.row for issue in issues} == {0, 1}
    assert set(rank_labels(TOPICS, many(TOPICS, values, labels)).rows.tolist()) == set(range(ROWS)) - {2}


def test_words_with_exchanged_tags_are_found():
    truth = np.tile([0, 1, 2, 0, 3], (ROWS, 1))
    labels = truth.copy()
    labels[7, 1:3] = [3, 4]  # an artist instead of a place
    labels[9, 4] = 0  # an artist that nobody has marked
    labels[11:] = np.where(np.arange(5) == 4, IGNORE_INDEX, labels[11:])
    given = np.where(labels == truth, 0.97, 0.01)
    given[9, 4] = 0.02
    values = {"ids": truth, "score": np.full(truth.shape, 0.97), "given": given, "count": np.full(ROWS, 5)}
    words = ["play", "New", "York", "by", "Davis"]
    issues = find_label_issues(SLOTS, many(SLOTS, values, labels, words))
    assert [(issue.row, issue.words) for issue in issues] == [(7, [1, 2]), (9, [4])]
    assert [(one.label, one.start, one.end) for one in issues[0].given] == [("artist", 5, 13), ("artist", 17, 22)]
    assert [(one.label, one.start, one.end) for one in issues[0].predicted] == [("place", 5, 13), ("artist", 17, 22)]


def test_the_probabilities_of_given_and_predicted_labels_are_kept():
    found = spread_probabilities(4, np.array([0, 1]), np.array([0.1, 0.7]), np.array([2, 1]), np.array([0.6, 0.7]))
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found[0] == pytest.approx([0.1, 0.15, 0.6, 0.15], abs=1e-5)
    assert found[1] == pytest.approx([0.1, 0.7, 0.1, 0.1], abs=1e-5)


def test_the_ranking_is_that_of_all_probabilities():
    """What an evaluation keeps is enough: the order by all probabilities is the same."""
    from cleanlab.rank import get_label_quality_scores

    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), ROWS)
    labels = generator.integers(0, 3, ROWS)
    rows = np.arange(ROWS)
    ids = probabilities.argmax(1)
    values, _ = label_answers(ids, probabilities[rows, ids], labels, probabilities[rows, labels])
    ranking = rank_labels(INTENT, many(INTENT, values, labels))
    expected = get_label_quality_scores(labels, probabilities)
    assert ranking.rows.tolist() == np.argsort(expected).tolist()
    assert ranking.quality == pytest.approx(np.sort(expected), abs=1e-4)


def test_without_cleanlab_the_extra_is_named(intents, monkeypatch):
    values, labels, _ = intents
    monkeypatch.setattr("hf_multitask.runtime.extras.missing_packages", lambda extra: ["cleanlab"])
    with pytest.raises(ImportError, match=r"pip install 'hf-multitask\[label-issues\]'"):
        find_label_issues(INTENT, many(INTENT, values, labels))
