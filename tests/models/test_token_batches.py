"""Batches with at most a number of tokens, padding included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.models.token_batches import cut_batches, rows_per_batch


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([], []),
        ([30], [(0, 1)]),
        ([8, 5, 3, 3, 2], [(0, 1), (1, 3), (3, 5)]),
        ([5, 5, 0, 0, 0], [(0, 2), (2, 5)]),
    ],
)
def test_batches_of_ten_tokens(lengths, batches):
    assert cut_batches(rows_per_batch(lengths, 10).tolist()) == batches


def test_batches_are_cut_by_tokens_and_contain_every_row_once():
    sizes = rows_per_batch([700, 300, 300, 90, 50, 50, 50, 2, 1], 600).tolist()
    assert cut_batches(sizes) == [(0, 1), (1, 3), (3, 9)]


@given(lengths=st.lists(st.integers(0, 50)), max_tokens=st.integers(1, 200))
def test_each_batch_is_full_and_within_the_budget(lengths, max_tokens):
    lengths = sorted(lengths, reverse=True)
    batches = cut_batches(rows_per_batch(lengths, max_tokens).tolist())
    assert [i for start, end in batches for i in range(start, end)] == list(range(len(lengths)))
    for start, end in batches:
        longest = max(lengths[start], 1)
        assert end - start == 1 or (end - start) * longest <= max_tokens
        assert end == len(lengths) or (end - start + 1) * longest > max_tokens
