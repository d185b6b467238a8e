"""Folds of equal size that keep the share of each label."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.data.labels import fold_assignment
from hf_multitask.data.labels.fold_assignment import assign_folds
from tests.data.hash_seeds import outputs_by_hash_seed

# Only this file: importing the whole package takes seconds.
PROGRAM = """
import random, runpy, sys
assign_folds = runpy.run_path(sys.argv[1])["assign_folds"]
rng = random.Random(0)
rows = [{f"ner:{rng.choice('abcdefgh')}" for _ in range(rng.randint(0, 4))} for _ in range(200)]
print(assign_folds(rows, 5, 1), assign_folds(rows, 5, 1, [f"speaker {i // 7}" for i in range(200)]))
"""

names = st.sampled_from([f"task:{letter}" for letter in "abcdefgh"])
numbers = st.integers(2, 6)


def missing(labels, folds, num_folds, groups=None):
    """Labels of at least as many groups as folds that are missing in a fold, with the number of such labels."""
    groups = range(len(labels)) if groups is None else groups
    found = [label for row in labels for label in row]
    groups_of = {
        label: {group for row, group in zip(labels, groups, strict=True) if label in row} for label in set(found)
    }
    frequent = [label for label, members in groups_of.items() if len(members) >= num_folds]
    return [
        (label, fold)
        for label in frequent
        for fold in range(num_folds)
        if not any(label in row for row, other in zip(labels, folds, strict=True) if other == fold)
    ], len(frequent)


def two_tasks(num_rows, seed):
    """Rows with an intent and up to three entity types, of which the first are the most frequent."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(12)]
    return [
        {f"intent:{rng.choices(range(12), weights)[0]}"}
        | {f"ner:{i}" for i in rng.choices(range(12), weights, k=rng.randint(0, 3))}
        for _ in range(num_rows)
    ]


@given(st.lists(st.sets(names, max_size=4), min_size=6, max_size=60), numbers, st.integers(0, 3))
def test_every_row_has_a_fold_and_sizes_differ_by_one_row(rows, num_folds, seed):
    folds = assign_folds(rows, num_folds, seed)
    sizes = Counter(folds)
    assert len(folds) == len(rows)
    assert sizes.keys() == set(range(num_folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert folds == assign_folds(rows, num_folds, seed)


@given(st.lists(names, min_size=6, max_size=100), numbers, st.integers(0, 3))
def test_with_one_label_per_row_each_is_spread_to_within_a_row(values, num_folds, seed):
    folds = assign_folds([{value} for value in values], num_folds, seed)
    for label in set(values):
        counts = Counter(fold for fold, value in zip(folds, values, strict=True) if value == label)
        assert max(counts.values()) - min(counts[fold] for fold in range(num_folds)) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 15), st.sets(names, max_size=3)), min_size=6, max_size=80),
    numbers,
    st.integers(0, 3),
)
def test_groups_never_part_and_sizes_differ_by_one_group(rows, num_folds, seed):
    groups, labels = zip(*rows, strict=True)
    if len(set(groups)) < num_folds:
        with pytest.raises(ValueError, match="at most as many folds as groups"):
            assign_folds(labels, num_folds, seed, groups)
        return
    folds = assign_folds(labels, num_folds, seed, groups)
    assert len(set(zip(groups, folds, strict=True))) == len(set(groups))
    sizes = Counter(folds)
    assert sizes.keys() == set(range(num_folds))
    assert max(sizes.values()) - min(sizes.values()) <= max(Counter(groups).values())


@pytest.mark.parametrize("num_folds", [2, 5, 10])
def test_with_two_tasks_a_frequent_label_is_in_every_fold(num_folds):
    absent, frequent = 0, 0
    for seed in range(30):
        rows = two_tasks(200, seed)
        pairs, count = missing(rows, assign_folds(rows, num_folds, 0), num_folds)
        absent, frequent = absent + len(pairs), frequent + count
    assert frequent > 400
    assert not absent


def test_random_folds_would_fail_that_check():
    rows = two_tasks(200, 0)
    folds = random.Random(0).choices(range(10), k=200)
    assert missing(rows, folds, 10)[0]


def test_swaps_bring_a_label_to_a_fold_that_lacks_it(monkeypatch):
    rows = [two_tasks(40, seed) for seed in range(60)]
    assert not any(missing(labels, assign_folds(labels, 5, 0), 5)[0] for labels in rows)
    monkeypatch.setattr(fold_assignment._Assignment, "spread_missing_labels", lambda *_: None)
    assert any(missing(labels, assign_folds(labels, 5, 0), 5)[0] for labels in rows)


def test_with_groups_each_label_keeps_its_share():
    rows = two_tasks(1000, 0)
    groups = [i // 4 for i in range(1000)]
    folds = assign_folds(rows, 5, 0, groups)
    counts = Counter(label for row in rows for label in row)
    for fold in range(5):
        inside = Counter(label for row, other in zip(rows, folds, strict=True) if other == fold for label in row)
        for label, count in counts.items():
            assert abs(inside[label] - count / 5) <= 2 + 0.1 * count, label


def test_rows_without_a_label_are_spread_too():
    folds = assign_folds([{"a"}] * 50 + [set()] * 50, 5, 0)
    assert Counter(folds[50:]) == dict.fromkeys(range(5), 10)


def test_the_seed_decides_which_rows_are_chosen():
    rows = two_tasks(100, 0)
    assert assign_folds(rows, 5, 0) != assign_folds(rows, 5, 1)


def test_every_process_gives_the_same_folds():
    assert len(outputs_by_hash_seed(PROGRAM, fold_assignment.__file__)) == 1


def test_more_folds_than_rows_are_refused():
    with pytest.raises(ValueError, match="at most as many folds as rows, found 5 folds and 4"):
        assign_folds([{"a"}] * 4, 5, 0)
