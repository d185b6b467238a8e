"""Windows of long rows: the window that is read for a word, and their layout in a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask import MultiTaskDataCollator, TaskConfig, prepare_datasets
from hf_multitask.models.collator import first_rows
from hf_multitask.models.text_windows import cut_row, flat_subwords
from tests.tiny import ROWS

INTENT = TaskConfig("intent", "sequence_classification")
SLOTS = TaskConfig("slots", "token_classification")
LONG = {"tokens": ["paris", "in", "rain"] * 9, "slots": ["B-place", "O", "O"] * 9, "intent": "GetWeather"}
# Each of these words is one subword, so that a window of 12 has 10 words.
LENGTH = {"max_length": 12, "overlap": 4}


@pytest.fixture(scope="module")
def mixed(encoders):
    """Return prepared rows, alternately short and long, and their collator."""
    from hf_multitask import load_tokenizer

    tokenizer = load_tokenizer(encoders["bert"])
    rows = [ROWS[0], LONG, ROWS[1], {**LONG, "tokens": ["rain"] * 16, "slots": ["O"] * 16}, ROWS[2]]
    data = prepare_datasets({"train": rows}, tokenizer, [INTENT, SLOTS], **LENGTH)
    return data, MultiTaskDataCollator(tokenizer, data.tasks)


def words_read(windows, overlap):
    """Return the words that are read from each window."""
    flat = iter(flat_subwords(windows, overlap))
    return [[word for word in (next(flat) for _ in window) if word is not None] for window in windows]


@pytest.mark.parametrize(
    ("windows", "overlap", "read"),
    [
        ([[None, 0, 1, 2, None]], 1, [[0, 1, 2]]),
        ([[None, 0, 1, 2, 3, None], [None, 2, 3, 4, 5, None]], 2, [[0, 1, 2], [3, 4, 5]]),
        ([[None, 0, 1, 2, 3, None], [None, 3, 4, None]], 1, [[0, 1, 2, 3], [4]]),
        ([[None, 0, 1, None], [None, 2, 3, None]], 0, [[0, 1], [2, 3]]),
        ([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]], 4, [[0, 1, 2], [3], [4, 5, 6]]),
        ([[None, 0, 0, 0, None], [None, 0, 0, 1, None]], 2, [[0, 0], [0, 1]]),
        ([[None, None]], 0, [[]]),
    ],
    ids=["one", "two", "short last", "no overlap", "three deep", "a word in two windows", "no word"],
)
def test_a_subword_is_read_from_the_window_whose_nearer_end_is_farthest(windows, overlap, read):
    assert words_read(windows, overlap) == read


def nearest_end(window, number, last, place):
    """Return the number of subwords between a subword and the nearer end of its window that is no end of the text."""
    content = [i for i, word in enumerate(window) if word is not None]
    before = content.index(place) if number else len(window) ** 2
    after = len(content) - 1 - content.index(place) if number < last else len(window) ** 2
    return min(before, after)


@given(st.integers(1, 40), st.integers(2, 9), st.data())
def test_each_subword_is_read_once_with_the_most_context(length, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    cut = cut_row([None, *[0] * length, None], room + 2, overlap) if length > room else None
    windows = [list(range(length + 2))] if cut is None else cut.windows
    words = [[None if i in (0, length + 1) else i for i in window] for window in windows]
    flat = flat_subwords(words, overlap if cut is None else cut.overlap)
    places = [(number, place) for number, window in enumerate(words) for place in range(len(window))]
    read = [(i, *where) for i, where in zip(flat, places, strict=True) if i is not None]
    assert sorted(i for i, _, _ in read) == list(range(1, length + 1))
    for i, number, place in read:
        context = {
            other: nearest_end(window, other, len(words) - 1, window.index(i))
            for other, window in enumerate(words)
            if i in window
        }
        assert words[number][place] == i
        # The first of several windows with equal context.
        assert number == max(context, key=lambda other: (context[other], -other))


@pytest.mark.parametrize(
    ("first", "second", "kept", "room"), [(3, 3, 3, 2), (9, 4, 2, 3), (4, 9, 3, 2), (1, 9, 4, 1), (9, 1, 1, 4)]
)
def test_a_second_text_has_half_of_each_window_or_what_the_first_leaves(first, second, kept, room):
    texts = [None, *[0] * first, None, *[1] * second, None]
    cut = cut_row(texts, 8, 0)
    windows = [[texts[i] for i in window] for window in cut.windows]
    assert [window.count(1) for window in windows] == [kept] * len(windows)
    assert windows[0].count(0) == min(first, room)
    assert sum(window.count(0) for window in windows) == first
    assert cut.truncated is (kept < second)


def test_windows_of_a_pair_have_something_new_whatever_the_overlap():
    cut = cut_row([None, *[0] * 9, None, *[1] * 4, None], 8, 5)
    assert cut.overlap == 2
    assert [window[1:4] for window in cut.windows] == [[i, i + 1, i + 2] for i in range(1, 8)]


def test_rows_that_fit_make_a_batch_without_windows(mixed):
    data, collate = mixed
    batch = collate([data["train"][i] for i in (0, 2, 4)])
    assert list(batch) == ["labels", "tag_positions", "input_ids", "attention_mask"]
    assert batch["input_ids"].shape[0] == 3


def test_a_batch_starts_with_its_rows_and_has_an_entry_for_each_window(mixed):
    data, collate = mixed
    batch = collate(list(data["train"]))
    assert next(iter(batch)) == "row_windows"
    assert batch["row_windows"].sum(1).tolist() == [1, 4, 1, 2, 1]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (9, 12)
    assert batch["labels"]["intent"].shape == (5,)
    assert batch["tag_positions"].shape == batch["labels"]["slots"].shape == (5, 27)


@pytest.mark.parametrize("count", range(1, 6))
def test_the_first_rows_of_a_batch_are_the_batch_of_the_first_rows(mixed, count):
    data, collate = mixed
    cut = first_rows(collate(list(data["train"])), count)
    alone = collate([data["train"][i] for i in range(count)])
    alone.setdefault("row_windows", torch.eye(count, dtype=torch.bool))
    assert torch.equal(cut["row_windows"], alone["row_windows"])
    assert torch.equal(cut["labels"]["intent"], alone["labels"]["intent"])
    words = alone["tag_positions"].size(1)
    assert (cut["tag_positions"][:, words:] == -1).all()
    assert torch.equal(cut["labels"]["slots"][:, :words], alone["labels"]["slots"])
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(cut[name][:, : alone[name].size(1)], alone[name])
    there = alone["tag_positions"] >= 0
    ids, expected = cut["input_ids"].flatten(), alone["input_ids"].flatten()
    assert torch.equal(ids[cut["tag_positions"][:, :words][there]], expected_ids(alone, expected, there))


def expected_ids(batch, ids, there):
    """Return the subword of each word; without windows, positions are relative to the row."""
    positions = batch["tag_positions"]
    if batch["row_windows"].size(0) == batch["row_windows"].size(1):
        positions = positions + torch.arange(len(positions)).unsqueeze(1) * batch["input_ids"].size(1)
    return ids[positions[there]]


def test_windows_are_counted_and_logged(mixed, tokenizer, caplog):
    data, _ = mixed
    report = data.reports["train"]
    assert (report.rows, report.windowed_rows, report.windows, report.lost_words) == (5, 2, 6, 0)
    prepare_datasets({"train": [ROWS[0], LONG]}, tokenizer, [INTENT, SLOTS], **LENGTH)
    assert "train: 1 of 2 rows cut into 4 windows." in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_length": 12, "overlap": 10}, r"overlap must be from 0 to 9 \(max_length=12\), found 10"),
        ({"max_length": 12, "overlap": -1}, "overlap must be at least 0, found -1"),
        ({"max_length": 2}, r"max_length=2 leaves no room for a word besides 2 special tokens"),
        ({"max_length": 12, "overlap": 2, "truncate": True}, "truncate and overlap exclude each other"),
    ],
)
def test_impossible_windows_are_refused(given, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        prepare_datasets({"train": [LONG]}, tokenizer, [SLOTS], **given)


@pytest.mark.parametrize("max_length", [12, 20])
def test_windows_overlap_by_a_quarter_of_max_length(max_length, tokenizer):
    row, expected = (
        prepare_datasets({"train": [LONG]}, tokenizer, [SLOTS], max_length=max_length, **given)["train"][0]
        for given in ({}, {"overlap": max_length // 4})
    )
    assert row == expected


@pytest.mark.parametrize("max_length", [3, 4, 5])
def test_the_smallest_max_length_works_without_an_overlap(max_length, tokenizer):
    row = prepare_datasets({"train": [LONG]}, tokenizer, [SLOTS], max_length=max_length)["train"][0]
    assert max(row["window_lengths"]) == max_length
    assert -1 not in row["tag_positions"]
