"""Nested training subsets."""

import random
from collections import Counter

from hf_multitask.study.subsets import labels_per_row, nested_order

COUNTS = {"many": 600, "some": 300, "few": 90, "rare": 10}
LABELS = [{label} for label, count in COUNTS.items() for _ in range(count)]
random.Random(0).shuffle(LABELS)


def test_the_first_rows_have_the_share_of_every_label():
    order = nested_order(LABELS, seed=1)
    assert sorted(order) == list(range(1000))
    for size in (50, 100, 500):
        counts = Counter(label for row in order[:size] for label in LABELS[row])
        for label, count in COUNTS.items():
            assert abs(counts[label] - count * size / 1000) <= 1


def test_the_seed_decides_which_rows_come_first():
    assert nested_order(LABELS, 1) == nested_order(LABELS, 1)
    assert set(nested_order(LABELS, 1)[:100]) != set(nested_order(LABELS, 2)[:100])


def test_a_row_counts_for_the_rarest_of_its_labels():
    labels = [{"common", "rare"} if i % 10 == 0 else {"common"} for i in range(100)]
    order = nested_order(labels, 0)
    assert sum("rare" in labels[row] for row in order[:50]) == 5


def test_rows_without_labels_have_their_share_too():
    labels = [set() if i % 2 else {"a"} for i in range(40)]
    assert sum(not labels[row] for row in nested_order(labels, 0)[:20]) == 10


def test_the_labels_per_row_all_tasks_count(data):
    (first, *_) = labels_per_row(data["train"], data.tasks)
    assert first == {"intent:PlayMusic", "slots:O"}
