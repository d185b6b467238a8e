"""Batches counted in tokens: each row once, within the limit, the same number in every epoch."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_multitask import MultiTaskDataCollator, prepare_datasets
from hf_multitask.data import MixedOrder, Sampling, SortedTokenBatchSampler, TokenBatchSampler
from hf_multitask.data.batches.mixing import STRATEGIES
from hf_multitask.data.batches.token_batch_sampler import padded_lengths
from tests.tiny import ROWS

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=80)
LIMITS = st.integers(1, 300)
PROCESSES = st.integers(1, 4)
SEEDS = st.integers(0, 3)
MANY = torch.randint(3, 40, (500,), generator=torch.Generator().manual_seed(0)).tolist()


def batches_of(lengths, max_tokens, epoch=0, processes=1, seed=0, **mix):
    """Return the batches of an epoch by process; discard the example if there are too few rows."""
    try:
        samplers = [
            TokenBatchSampler(
                lengths, max_tokens, seed, lambda: epoch, num_processes=processes, process_index=i, **mix
            )
            for i in range(processes)
        ]
    except ValueError as error:
        assume("cannot be split" not in str(error))
        raise
    batches = [list(sampler) for sampler in samplers]
    assert [len(own) for own in batches] == [len(sampler) for sampler in samplers]
    return batches


def flat(batches):
    return [row for batch in batches for row in batch]


def check_limit(batches, lengths, max_tokens):
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= max_tokens


@given(LENGTHS, LIMITS, PROCESSES, SEEDS)
def test_every_row_comes_once_and_processes_and_epochs_have_equal_numbers_of_batches(
    lengths, max_tokens, processes, seed
):
    counts = set()
    for epoch in range(3):
        by_process = batches_of(lengths, max_tokens, epoch, processes, seed)
        batches = [batch for own in by_process for batch in own]
        assert sorted(flat(batches)) == list(range(len(lengths)))
        assert all(batches)
        check_limit(batches, lengths, max_tokens)
        counts |= {len(own) for own in by_process}
    assert len(counts) == 1


@given(
    st.lists(LENGTHS, min_size=1, max_size=3),
    LIMITS,
    PROCESSES,
    st.builds(
        Sampling,
        strategy=st.sampled_from(STRATEGIES),
        stopping=st.sampled_from(["first_exhausted", "all_exhausted"]),
    ),
    st.sampled_from([None, 1, 40]),
)
def test_the_epochs_of_a_mix_have_equal_numbers_of_batches(by_dataset, max_tokens, processes, sampling, total):
    lengths = [length for lengths_of_one in by_dataset for length in lengths_of_one]
    order = MixedOrder([len(lengths_of_one) for lengths_of_one in by_dataset], sampling, 0)
    mix = {"order": order, "num_epochs": 4} if total is None else {"order": order, "total_batches": total}
    counts = []
    for epoch in range(4):
        if total is not None and sum(counts) >= total:
            break
        by_process = batches_of(lengths, max_tokens, epoch, processes, **mix)
        batches = [batch for own in by_process for batch in own]
        assert sorted(flat(batches)) == sorted(order.rows(epoch).tolist())
        assert all(batches)
        check_limit(batches, lengths, max_tokens)
        counts.append(len(batches))
    assert len(set(counts)) == 1


def test_a_mix_has_the_number_of_batches_of_the_epoch_that_needs_most():
    order = MixedOrder([20, 480], Sampling("uniform"), seed=2)
    first = len(batches_of(MANY, 100, order=order, num_epochs=1)[0])
    most = len(batches_of(MANY, 100, order=order, num_epochs=9)[0])
    assert first < most
    for epoch in range(9):
        assert len(batches_of(MANY, 100, epoch, order=order, total_batches=9 * most)[0]) == most


@given(LENGTHS, LIMITS)
def test_no_order_of_the_rows_by_length_makes_fewer_batches(lengths, max_tokens):
    (batches,) = batches_of(lengths, max_tokens)
    ordered = sorted((max(length, 1) for length in lengths), reverse=True)
    fewest = start = 0
    while start < len(ordered):
        start += max(max_tokens // ordered[start], 1)
        fewest += 1
    assert len(batches) == fewest


def test_the_order_is_a_function_of_seed_and_epoch():
    first = batches_of(MANY, 300)
    torch.rand(7)
    assert batches_of(MANY, 300) == first
    assert batches_of(MANY, 300, epoch=1) != first
    assert batches_of(MANY, 300, seed=1) != first
    (batches,), (later,) = first, batches_of(MANY, 300, epoch=1)
    # Not only the order of the batches differs, but also their rows.
    assert not {frozenset(batch) for batch in batches} & {frozenset(batch) for batch in later}


def test_batches_have_rows_of_similar_length_and_are_not_sorted():
    (batches,) = batches_of(MANY, 300)
    tokens = sum(MANY)
    padded = sum(len(batch) * max(MANY[row] for row in batch) for batch in batches)
    assert padded < 1.05 * tokens
    assert len(batches) < 1.15 * tokens / 300
    sizes = [len(batch) for batch in batches[:20]]
    assert sizes != sorted(sizes)
    assert sizes != sorted(sizes, reverse=True)


def test_processes_take_turns_with_the_batches():
    """Two processes together take in one step the batches that one process takes in two."""
    (single,) = batches_of(MANY, 290)
    assert len(single) % 2 == 0
    first, second = batches_of(MANY, 290, processes=2)
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == single


def test_the_batches_with_most_rows_are_halved_for_the_processes():
    (five,) = batches_of([10] * 10, 20)
    assert [len(batch) for batch in five] == [2] * 5
    first, second, third = batches_of([10] * 10, 20, processes=3)
    assert sorted(len(batch) for batch in [*first, *second, *third]) == [1, 1, 2, 2, 2, 2]


def test_too_few_rows_for_the_processes_are_refused():
    with pytest.raises(
        ValueError, match="makes 3 batches of 3 rows, which cannot be split so that each of 2 processes"
    ):
        TokenBatchSampler([9, 9, 9], 10, 0, lambda: 0, num_processes=2)


@given(LENGTHS, LIMITS)
def test_an_evaluation_takes_the_longest_rows_first(lengths, max_tokens):
    sampler = SortedTokenBatchSampler(lengths, max_tokens)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert flat(batches) == sampler.sampler.order
    assert [lengths[row] for row in flat(batches)] == sorted(lengths, reverse=True)
    check_limit(batches, lengths, max_tokens)


@settings(max_examples=25)
@given(words=st.lists(st.integers(0, 40), min_size=1, max_size=12), max_tokens=st.integers(1, 200), seed=SEEDS)
def test_rows_in_windows_are_counted_as_the_encoder_takes_them(words, max_tokens, seed, tokenizer, tasks):
    rows = [{"tokens": ["paris"] * count, "slots": ["O"] * count} for count in words if count]
    data = prepare_datasets({"train": [*ROWS[:4], *rows]}, tokenizer, tasks, max_length=10, overlap=2)["train"]
    collator = MultiTaskDataCollator(tokenizer, [])
    lengths = padded_lengths(data, "length")
    (batches,) = batches_of(lengths, max_tokens, seed=seed)
    for batch in batches:
        tokens = collator([{**data[row], "labels": {}} for row in batch])["input_ids"].numel()
        assert tokens <= max_tokens or len(batch) == 1
        if len(batch) == 1:
            assert tokens == lengths[batch[0]]
