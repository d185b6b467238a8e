"""A validation split that keeps the share of each label."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.data.labels import stratified_split
from hf_multitask.data.labels.stratified_split import split_validation
from tests.data.hash_seeds import outputs_by_hash_seed

# Only this file: importing the whole package takes seconds.
PROGRAM = """
import random, runpy, sys
split_validation = runpy.run_path(sys.argv[1])["split_validation"]
rng = random.Random(0)
rows = [{f"ner:{rng.choice('abcdefgh')}" for _ in range(rng.randint(0, 4))} for _ in range(200)]
print(split_validation(rows, 0.2, 1))
"""

names = st.sampled_from([f"task:{letter}" for letter in "abcdefgh"])
shares = st.floats(0.05, 0.95)


def labels_of(rows, indexes):
    return Counter(label for i in indexes for label in rows[i])


def skewed_rows(num_rows, num_labels, most_labels, seed):
    """Rows with one or more labels. The first labels are far more frequent than the last."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(num_labels)]
    return [
        {f"ner:{i}" for i in rng.choices(range(num_labels), weights, k=rng.randint(1, most_labels))}
        for _ in range(num_rows)
    ]


@given(st.lists(st.sets(names, max_size=4), min_size=1, max_size=60), shares, st.integers(0, 3))
def test_every_row_is_in_one_split_and_every_label_in_train(rows, share, seed):
    try:
        train, validation = split_validation(rows, share, seed)
    except ValueError as error:
        assert "expected at least one each" in str(error)  # noqa: PT017 (most small splits succeed)
        return
    assert sorted([*train, *validation]) == list(range(len(rows)))
    assert (train, validation) == (sorted(train), sorted(validation))
    assert train
    assert validation
    assert labels_of(rows, train).keys() == labels_of(rows, range(len(rows))).keys()


@given(st.lists(names, min_size=20, max_size=200), shares, st.integers(0, 3))
def test_with_one_label_per_row_each_is_within_a_row_of_its_share(values, share, seed):
    _, validation = split_validation([{value} for value in values], share, seed)
    in_validation = Counter(values[i] for i in validation)
    for label, count in Counter(values).items():
        kept_in_train = in_validation[label] == count - 1
        assert abs(in_validation[label] - share * count) < 1 or (
            kept_in_train and in_validation[label] < share * count
        )


@given(st.lists(st.integers(2, 20), min_size=1, max_size=40), st.floats(0.05, 0.5))
def test_many_rare_labels_together_have_their_share(counts, share):
    rows = [{f"intent:{i}"} for i, count in enumerate(counts) for _ in range(count)]
    if share * len(rows) < 1:
        return
    _, validation = split_validation(rows, share, 0)
    assert abs(len(validation) - share * len(rows)) <= 0.5 + 1e-6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_several_labels_per_row_each_has_its_share(share, seed):
    rows = skewed_rows(3000, 40, 5, seed)
    _, validation = split_validation(rows, share, seed)
    found, counts = labels_of(rows, validation), labels_of(rows, range(len(rows)))
    assert abs(len(validation) - share * len(rows)) <= 0.01 * len(rows)
    for label, count in counts.items():
        assert abs(found[label] - share * count) <= 1 + 0.01 * count, label


def test_a_random_split_would_fail_that_check():
    rows = skewed_rows(3000, 40, 5, 0)
    found, counts = labels_of(rows, random.Random(0).sample(range(3000), 300)), labels_of(rows, range(3000))
    assert any(abs(found[label] - 0.1 * count) > 1 + 0.01 * count for label, count in counts.items())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_label_of_a_single_row_stays_in_train(share):
    rows = [{"intent:common"}] * 30 + [{"intent:once"}, {"intent:common", "ner:once"}]
    for seed in range(5):
        train, validation = split_validation(rows, share, seed)
        assert {30, 31} <= set(train)
        assert len(validation) == pytest.approx(share * len(rows), abs=1)


def test_rows_without_a_label_have_their_share():
    rows = [{"intent:a"}] * 50 + [set()] * 50
    _, validation = split_validation(rows, 0.2, 0)
    assert sum(i >= 50 for i in validation) == 10


def test_a_label_named_twice_in_a_row_counts_once():
    rows = [["ner:a", "ner:a"]] * 10 + [["ner:b"]] * 10
    assert split_validation(rows, 0.3, 0) == split_validation([set(row) for row in rows], 0.3, 0)


def test_the_seed_decides_which_rows_are_chosen():
    rows = skewed_rows(200, 5, 2, 0)
    assert split_validation(rows, 0.2, 0) == split_validation(rows, 0.2, 0)
    assert split_validation(rows, 0.2, 0) != split_validation(rows, 0.2, 1)


def test_every_process_gives_the_same_split():
    assert len(outputs_by_hash_seed(PROGRAM, stratified_split.__file__)) == 1


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.1"])
def test_an_invalid_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share of validation must be a number in \(0, 1\), found "):
        split_validation([{"a"}] * 10, share, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "0 rows leave 0 for train and 0 for validation"),
        ([set()], "1 rows leave 1 for train and 0 for validation"),
        ([{"a"}, {"b"}, {"c"}], "3 rows leave 3 for train and 0 for validation, .* keeps a row in train"),
    ],
)
def test_an_empty_split_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        split_validation(rows, 0.5, 0)
