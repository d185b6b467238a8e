"""Balanced class weights, computed from counts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import compute_class_weight

from hf_multitask import TaskConfig
from hf_multitask.data.labels.class_balance import complete_class_weights


def sequence(labels, weights="balanced", **given):
    return TaskConfig("intent", "sequence_classification", labels, class_weights=weights, **given)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=50))
def test_balanced_weights_are_the_same_as_in_scikit_learn(values):
    task = complete_class_weights(sequence(sorted(set(values))), Counter(values), len(values))
    expected = compute_class_weight("balanced", classes=np.unique(values), y=values)
    assert list(task.class_weights.values()) == pytest.approx(list(expected))


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), min_size=1).filter(
        lambda counts: any(counts.values())
    )
)
def test_the_mean_weight_over_train_is_one(counts):
    weights = complete_class_weights(sequence(["a", "b", "c", "d"]), counts, 0).class_weights
    total = sum(weights[label] * count for label, count in counts.items())
    assert total == pytest.approx(sum(counts.values()))


def test_a_label_missing_from_train_gets_one_and_does_not_change_the_others():
    task = complete_class_weights(sequence(["a", "b", "never"]), {"a": 1, "b": 3, "unseen": 100}, 104)
    assert task.class_weights == pytest.approx({"a": 2.0, "b": 2 / 3, "never": 1.0})


def test_one_of_several_labels_weighs_its_absence_against_its_presence():
    task = sequence(["some", "half", "never", "always"], problem_type="multi_label_classification")
    task = complete_class_weights(task, {"some": 2, "half": 5, "always": 10}, 10)
    assert task.class_weights == {"some": 4.0, "half": 1.0, "never": 1.0, "always": 1.0}


def test_tags_are_counted_by_word():
    task = TaskConfig("ner", "token_classification", ["O", "B-PER", "I-PER"], class_weights="balanced")
    task = complete_class_weights(task, {"O": 80, "B-PER": 15, "I-PER": 5}, 7)
    assert task.class_weights == pytest.approx({"O": 100 / 240, "B-PER": 100 / 45, "I-PER": 100 / 15})


@pytest.mark.parametrize("weights", [None, {"a": 2.0}])
def test_other_weights_stay_as_they_are(weights):
    task = sequence(["a", "b"], weights)
    assert complete_class_weights(task, {"a": 1, "b": 9}, 10) == task


def test_balanced_weights_without_labels_are_refused():
    with pytest.raises(ValueError, match="task 'intent': class_weights='balanced' needs the task's labels"):
        complete_class_weights(sequence(None), {"a": 1}, 1)
