"""Scores by class add up to the metrics of the whole."""

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as seqeval_scores
from sklearn.metrics import precision_recall_fscore_support as sklearn_scores

from hf_multitask import TaskConfig
from hf_multitask.reports.class_scores import NO_ENTITY, class_scores, count_confusion, count_entity_errors
from hf_multitask.reports.confusion_figures import MAX_SHOWN, OTHERS, draw_confusion, shown_labels
from hf_multitask.training.metrics import task_metrics

LABELS = ["a", "b", "c", "never"]
TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
ONE = TaskConfig("one", "sequence_classification", labels=LABELS, problem_type="single_label_classification")
MANY = TaskConfig("many", "sequence_classification", labels=LABELS, problem_type="multi_label_classification")
WORDS = TaskConfig("words", "token_classification", labels=TAGS)
IDS = {tag: i for i, tag in enumerate(TAGS)}


def tags(*rows):
    """Return the ids of tags, padded with -100."""
    longest = max(len(row.split()) for row in rows)
    return np.array([[IDS.get(tag, -100) for tag in (row.split() + ["-"] * longest)[:longest]] for row in rows])


@pytest.fixture(params=range(5))
def random(request):
    return np.random.default_rng(request.param)


def test_one_label_per_row(random):
    gold, found = (random.integers(0, 3, 60) for _ in range(2))
    gold[:7] = -100
    scores = class_scores(ONE, found, gold)
    metrics = task_metrics(ONE, found, gold)
    assert [score.label for score in scores] == ["a", "b", "c"]
    assert np.mean([score.f1 for score in scores]) == pytest.approx(metrics["macro_f1"])
    assert sum(score.correct for score in scores) / 53 == pytest.approx(metrics["accuracy"])
    confusion = count_confusion(ONE, found, gold).counts
    assert confusion.sum() == 53
    assert confusion[1, 2] == sum((gold == 1) & (found == 2))


def test_several_labels_per_row(random):
    gold, found = (random.integers(0, 2, (40, 4)).astype(float) for _ in range(2))
    gold[3] = np.nan
    scores = class_scores(MANY, found, gold)
    assert np.mean([score.f1 for score in scores]) == pytest.approx(task_metrics(MANY, found, gold)["macro_f1"])


def test_entities(random):
    gold, found = (random.integers(0, 5, (30, 12)) for _ in range(2))
    found[::2] = gold[::2]
    gold[random.random((30, 12)) < 0.2] = -100
    gold[4] = -100
    scores = class_scores(WORDS, found, gold)
    metrics = task_metrics(WORDS, found, gold)
    correct, predicted, gold_count = (
        sum(getattr(score, name) for score in scores) for name in ("correct", "predicted", "gold")
    )
    assert correct / predicted == pytest.approx(metrics["precision"])
    assert correct / gold_count == pytest.approx(metrics["recall"])
    errors = count_entity_errors(WORDS, found, gold)
    for score in scores:
        kinds = errors[score.label]
        assert score.gold == score.correct + kinds.wrong_type + kinds.wrong_boundaries + kinds.missed
        assert kinds.spurious <= score.predicted - score.correct


def test_scores_by_class_agree_with_scikit_learn(random):
    gold, predicted = (random.integers(0, 4, 50) for _ in range(2))
    scores = class_scores(ONE, predicted, gold)
    expected = sklearn_scores(gold, predicted, average=None, zero_division=0)
    assert np.array(scores)[:, 1:5].astype(float) == pytest.approx(np.stack(expected, axis=1))


def test_scores_by_entity_type_agree_with_seqeval(random):
    gold, predicted = (random.integers(0, 5, (30, 12)) for _ in range(2))
    predicted[::2] = gold[::2]
    scores = class_scores(WORDS, predicted, gold)
    expected = seqeval_scores(*([[TAGS[i] for i in row] for row in ids] for ids in (gold, predicted)), average=None)
    assert [score.label for score in scores] == ["x", "y"]
    assert np.array(scores)[:, 1:5].astype(float) == pytest.approx(np.stack(expected, axis=1))


def test_rows_without_entities():
    nothing = tags("O O O", "O O")
    assert class_scores(WORDS, nothing, nothing) == []
    assert count_confusion(WORDS, nothing, nothing).counts.sum() == 0


def test_kinds_of_entity_errors():
    gold = tags("B-x I-x O B-y O", "B-x O O B-y I-y", "O O O")
    found = tags("B-x O O B-x B-y", "B-x O O O O", "O B-y O")
    errors = count_entity_errors(WORDS, found, gold)
    assert vars(errors["x"]) == {"wrong_type": 0, "wrong_boundaries": 1, "missed": 0, "spurious": 0}
    assert vars(errors["y"]) == {"wrong_type": 1, "wrong_boundaries": 0, "missed": 1, "spurious": 2}
    confusion = count_confusion(WORDS, found, gold)
    assert confusion.names == ["x", "y", NO_ENTITY]
    assert confusion.counts.tolist() == [[1, 0, 1], [1, 0, 1], [1, 2, 0]]


def test_only_the_labels_with_the_most_mistakes_are_shown():
    labels = [f"l{i}" for i in range(60)]
    task = TaskConfig("big", "sequence_classification", labels=labels, problem_type="single_label_classification")
    gold = np.repeat(np.arange(50), 4)
    found = gold.copy()
    found[[40, 41, 42, 100]] = [30, 30, 30, 7]
    shown = shown_labels(count_confusion(task, found, gold))
    assert len(shown.names) == MAX_SHOWN
    assert shown.names[-1] == OTHERS
    assert {"l10", "l30", "l25", "l7"} < set(shown.names)
    assert shown.counts.sum() == 200
    assert shown.counts[shown.names.index("l10"), shown.names.index("l30")] == 3
    few = shown_labels(count_confusion(ONE, np.array([0, 2]), np.array([0, 0])))
    assert few.names == ["a", "c"]


def test_cells_contain_their_counts():
    figure = draw_confusion(shown_labels(count_confusion(ONE, np.array([0, 2, 2]), np.array([0, 0, 0]))))
    (axes,) = figure.axes
    assert {text.xy: text.get_text() for text in axes.texts} == {(0.5, 0.5): "1", (1.5, 0.5): "2"}
