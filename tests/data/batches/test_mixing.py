"""Mixing of datasets: shares, the rows of an epoch, and the turns of an endless stream."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.data import EpochLengthGroupedSampler
from hf_multitask.data.batches.mixing import STOPPING, STRATEGIES, MixedOrder, MixedTurns, Sampling

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
SAMPLINGS = st.builds(
    Sampling,
    strategy=st.sampled_from(STRATEGIES),
    temperature=st.floats(1, 20),
    stopping=st.sampled_from(STOPPING),
)


def by_dataset(rows, sizes):
    """Return the rows of each dataset, numbered from its first row."""
    ends = list(itertools.accumulate(sizes))
    return [
        [row - end + size for row in rows if end - size <= row < end] for end, size in zip(ends, sizes, strict=True)
    ]


def take(turns, count, start=0):
    return list(itertools.islice(turns.sources(start), count))


@pytest.mark.parametrize(
    ("sampling", "sizes", "shares"),
    [
        (Sampling(), [3000, 1000], [0.75, 0.25]),
        (Sampling("uniform"), [3000, 1000], [0.5, 0.5]),
        (Sampling("uniform"), [3000, 1000, 5, 7], [0.25] * 4),
        (Sampling("temperature"), [400, 100], [20 / 30, 10 / 30]),
        (Sampling("temperature", temperature=3), [8, 64, 27], [2 / 9, 4 / 9, 3 / 9]),
        (Sampling("temperature", temperature=1), [3000, 1000], [0.75, 0.25]),
    ],
)
def test_shares(sampling, sizes, shares):
    assert sampling.shares(sizes) == pytest.approx(shares)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), SAMPLINGS)
def test_shares_sum_to_one(sizes, sampling):
    shares = sampling.shares(sizes)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


@pytest.mark.parametrize(
    ("strategy", "stopping", "counts"),
    [
        ("proportional", "first_exhausted", [3394, 7500]),
        ("proportional", "all_exhausted", [3394, 7500]),
        ("uniform", "first_exhausted", [3394, 3394]),
        ("uniform", "all_exhausted", [7500, 7500]),
        ("temperature", "first_exhausted", [3394, 5045]),  # 3394 * sqrt(7500 / 3394) = 5045.3
        ("temperature", "all_exhausted", [5046, 7500]),  # 7500 * sqrt(3394 / 7500) = 5045.3
    ],
)
def test_an_epoch_of_ner_and_intent(strategy, stopping, counts):
    order = MixedOrder([3394, 7500], Sampling(strategy, stopping=stopping), seed=0)
    assert order.counts == counts
    assert len(order) == sum(counts)


def test_a_power_that_is_whole_costs_no_row():
    # 64 ** (1 / 3) is 3.9999999999999996.
    assert len(MixedOrder([64, 8], Sampling("temperature", temperature=3), seed=0)) == 24


@given(SIZES, SAMPLINGS, st.integers(0, 2**40))
def test_epochs_keep_what_stopping_promises(sizes, sampling, seed):
    order = MixedOrder(sizes, sampling, seed)
    assert sum(order.counts) == len(order)
    for epoch in range(6):
        used = by_dataset(order.rows(epoch).tolist(), sizes)
        assert [len(rows) for rows in used] == order.counts
        for rows, size in zip(used, sizes, strict=True):
            if sampling.stopping == "first_exhausted":
                assert len(set(rows)) == len(rows)
            else:
                assert set(rows) == set(range(size))


@given(SIZES, SAMPLINGS)
def test_an_epoch_with_one_row_more_or_less_would_not(sizes, sampling):
    order = MixedOrder(sizes, sampling, 0)
    whole = [size / share for size, share in zip(sizes, sampling.exact_shares(sizes), strict=True)]
    if sampling.stopping == "first_exhausted":
        assert len(order) <= min(whole) < len(order) + 1
    else:
        assert len(order) - 1 < max(whole) <= len(order)


@given(SIZES, SAMPLINGS)
def test_counts_are_the_shares_rounded(sizes, sampling):
    order = MixedOrder(sizes, sampling, 0)
    due = [share * len(order) for share in sampling.shares(sizes)]
    assert all(abs(rows - exact) < 1 for rows, exact in zip(order.counts, due, strict=True))


@given(SIZES, SAMPLINGS, st.integers(1, 12))
def test_rows_of_a_dataset_are_used_equally_often(sizes, sampling, epochs):
    order = MixedOrder(sizes, sampling, 0)
    seen = Counter(row for epoch in range(epochs) for row in order.rows(epoch).tolist())
    for i, size in enumerate(sizes):
        times = [seen[sum(sizes[:i]) + row] for row in range(size)]
        assert max(times) - min(times) <= 1


def test_rows_that_an_epoch_leaves_out_come_next():
    order = MixedOrder([10, 25], Sampling("uniform"), seed=0)
    large = [set(by_dataset(order.rows(epoch).tolist(), [10, 25])[1]) for epoch in range(3)]
    assert not large[0] & large[1]
    assert large[0] | large[1] | large[2] == set(range(25))


@given(SIZES, SAMPLINGS, st.integers(0, 2**32), st.permutations(range(5)))
def test_an_epoch_does_not_depend_on_others(sizes, sampling, seed, epochs):
    order = MixedOrder(sizes, sampling, seed)
    for epoch in epochs:
        torch.rand(3)
        fresh = MixedOrder(sizes, sampling, seed)
        assert torch.equal(order.rows(epoch), fresh.rows(epoch))


def test_seeds_and_epochs_differ():
    def rows(seed, epoch):
        return MixedOrder([50, 50], Sampling(), seed).rows(epoch).tolist()

    assert len({tuple(rows(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_every_process_sees_the_same_order():
    assert MixedOrder([9, 5], Sampling("uniform"), 3).rows(1).tolist() == [10, 11, 1, 0, 9, 6, 13, 2, 12, 3]
    assert take(MixedTurns(Sampling("uniform"), [9, 5], 3), 10, 1995) == [0, 0, 0, 1, 0, 0, 1, 0, 1, 1]


def test_epochs_are_mixed_throughout():
    rows = MixedOrder([300, 700], Sampling(), seed=0).rows(0)
    for section in rows.split(200):
        assert 35 < (section < 300).sum() < 85


@given(SAMPLINGS, st.integers(1, 100))
def test_one_dataset_is_a_plain_shuffled_epoch(sampling, size):
    order = MixedOrder([size], sampling, 0)
    for epoch in range(3):
        assert sorted(order.rows(epoch).tolist()) == list(range(size))
        assert torch.equal(order.rows(epoch), MixedOrder([size], Sampling(), 0).rows(epoch))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "proportionl"}, "unknown sampling strategy 'proportionl'. Did you mean 'proportional'"),
        ({"strategy": "round_robin"}, "'round_robin' was removed; use 'uniform'.* Allowed are 'proportional'"),
        ({"strategy": "annealed"}, "'annealed' was removed; use 'temperature'.* Allowed are 'proportional'"),
        ({"stopping": "exhausted"}, "unknown stopping 'exhausted'"),
        ({"temperature": 0.5}, "temperature must be a finite number from 1, found 0.5"),
        ({"temperature": float("inf")}, "temperature: expected a number, found inf"),
        ({"temperature": float("nan")}, "temperature: expected a number, found nan"),
        ({"temperature": "hot"}, "temperature: expected a number, found 'hot'"),
        ({"temperature": True}, "temperature: expected a number, found true"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**values)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_datasets_without_rows_are_refused(strategy):
    with pytest.raises(ValueError, match=r"dataset 1 has no rows \(sizes: \[5, 0\]\)"):
        MixedOrder([5, 0], Sampling(strategy), 0)
    with pytest.raises(ValueError, match="dataset 1 has no rows"):
        MixedTurns(Sampling(strategy), [5, 0], 0)
    with pytest.raises(ValueError, match="no dataset to take rows from"):
        MixedOrder([], Sampling(strategy), 0)


@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=5),
    SAMPLINGS,
    st.integers(0, 3500),
    st.integers(0, 2**40),
)
def test_turns_from_any_start_are_the_tail_of_all(sizes, sampling, start, seed):
    turns = MixedTurns(sampling, sizes, seed)
    assert take(turns, 200, start) == take(turns, start + 200)[start:]


@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=6),
    st.sampled_from(STRATEGIES),
)
def test_turns_keep_to_the_shares(sizes, strategy):
    sampling = Sampling(strategy)
    shares = sampling.shares(sizes)
    sources = take(MixedTurns(sampling, sizes, 0), 5000)
    for end in range(1000, 5001, 1000):
        ahead = [sources[:end].count(i) - end * share for i, share in enumerate(shares)]
        largest = ahead.pop(sizes.index(max(sizes)))
        assert all(abs(rows) <= 0.5 + 1e-6 for rows in ahead)
        assert abs(largest) <= len(ahead) / 2 + 1e-6


def test_a_dataset_with_less_than_one_row_per_block_gets_its_turns():
    sources = take(MixedTurns(Sampling(), [10_000_000, 3_000], 0), 20_000)
    assert sources.count(1) == 6


def test_many_datasets_get_their_turns():
    sources = take(MixedTurns(Sampling("uniform"), [1] * 300, 0), 300**2)
    assert set(Counter(sources).values()) == {300}


def test_each_block_of_turns_is_shuffled_differently():
    turns = MixedTurns(Sampling("uniform"), [10, 10], 0)
    sources = take(turns, 2000)
    assert sources[:1000] != sources[1000:]
    assert 200 < sum(a != b for a, b in itertools.pairwise(sources[:1000])) < 800
    assert sources != take(MixedTurns(Sampling("uniform"), [10, 10], 1), 2000)


def grouped(lengths, batch_size, epoch, order=None):
    sampler = EpochLengthGroupedSampler(lengths, batch_size, 0, lambda: epoch, order)
    rows = list(sampler)
    assert len(rows) == len(sampler)
    return rows


def test_the_order_without_a_mix_is_stable():
    assert grouped([5, 3, 9, 3, 7, 1, 8, 2, 6, 4], 2, epoch=1) == [2, 6, 0, 9, 4, 8, 7, 5, 1, 3]


@given(SIZES, SAMPLINGS, st.integers(1, 8), st.integers(0, 3))
def test_batches_of_similar_length_contain_the_rows_of_the_mix(sizes, sampling, batch_size, epoch):
    order = MixedOrder(sizes, sampling, 0)
    lengths = [row % 7 for row in range(sum(sizes))]
    rows = grouped(lengths, batch_size, epoch, order)
    assert sorted(rows) == sorted(order.rows(epoch).tolist())
    steps = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    if len(rows) <= batch_size * 50:
        spans = sorted((min(lengths[i] for i in step), max(lengths[i] for i in step)) for step in steps[:-1])
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_mixed_batches_have_each_dataset_s_share_of_the_rows():
    sizes = [300, 700]
    # Rows of the first dataset are longer than all of the second.
    lengths = [100 + row % 50 for row in range(300)] + [row % 50 for row in range(700)]
    by_length, mixed = (
        grouped(lengths, 10, 1, MixedOrder(sizes, Sampling(batches=batches), 0)) for batches in ("by_length", "mixed")
    )
    assert sorted(by_length) == sorted(mixed) == list(range(1000))

    def shares(rows):
        return [len(by_dataset(rows[i : i + 10], sizes)[0]) for i in range(0, 1000, 10)]

    assert Counter(shares(by_length)).keys() >= {0, 10}
    assert set(shares(mixed)) <= {2, 3, 4}
    for i in range(0, 1000, 10):
        for rows in by_dataset(mixed[i : i + 10], sizes):
            of_rows = [row % 50 for row in rows]
            assert max(of_rows) - min(of_rows) <= 15


@given(SIZES, SAMPLINGS, st.integers(1, 8), st.integers(0, 3))
def test_mixed_batches_contain_the_rows_of_the_mix(sizes, sampling, batch_size, epoch):
    order = MixedOrder(sizes, replace(sampling, batches="mixed"), 0)
    lengths = [row % 7 for row in range(sum(sizes))]
    rows = grouped(lengths, batch_size, epoch, order)
    assert sorted(rows) == sorted(order.rows(epoch).tolist())
    assert rows == grouped(lengths, batch_size, epoch, order)


def test_an_unknown_kind_of_batches_is_refused():
    with pytest.raises(ValueError, match=r"unknown batches in sampling 'mix'\. Did you mean 'mixed'\?"):
        Sampling(batches="mix")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_uniform_shares_do_not_depend_on_sizes(strategy):
    assert Sampling(strategy).needs_sizes == (strategy != "uniform")
