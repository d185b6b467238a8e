"""Samplers and the collator: order of rows, padding, and labels."""

import datasets
import pytest
import torch

from hf_multitask import MultiTaskDataCollator, TaskConfig, prepare_datasets
from hf_multitask.data import EpochLengthGroupedSampler, LengthSortedSampler
from tests.tiny import ROWS

LENGTHS = torch.randint(3, 40, (500,), generator=torch.Generator().manual_seed(0)).tolist()


def order(seed=0, epoch=0, batch_size=8, lengths=LENGTHS):
    return list(EpochLengthGroupedSampler(lengths, batch_size, seed, lambda: epoch))


def test_every_row_comes_once_and_the_short_batch_last():
    rows = order(batch_size=16)
    assert sorted(rows) == list(range(500))
    assert len(EpochLengthGroupedSampler(LENGTHS, 16, 0, lambda: 0)) == 500
    steps = [rows[i : i + 16] for i in range(0, 500, 16)]
    spread = [max(LENGTHS[i] for i in step) - min(LENGTHS[i] for i in step) for step in steps]
    assert max(spread) <= 4


def test_the_order_is_a_function_of_seed_and_epoch():
    first = order()
    torch.rand(7)
    assert order() == first
    assert order(epoch=1) != first
    assert order(seed=1) != first


def test_batches_are_not_sorted_by_length():
    lengths = [LENGTHS[i] for i in order(batch_size=8)[::8]]
    assert lengths != sorted(lengths)
    assert lengths != sorted(lengths, reverse=True)


def test_sorted_order_starts_with_the_longest():
    sampler = LengthSortedSampler(LENGTHS)
    lengths = [LENGTHS[i] for i in sampler]
    assert lengths == sorted(LENGTHS, reverse=True)
    assert len(sampler) == 500


def test_a_batch_is_padded_once_with_all_labels(data, tokenizer):
    rows = [data["train"][i] for i in range(4)]
    batch = MultiTaskDataCollator(tokenizer, data.tasks)(rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, max(row["length"] for row in rows))
    assert batch["attention_mask"].sum(1).tolist() == [row["length"] for row in rows]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    words = [len(row["tag_positions"]) for row in rows]
    assert batch["tag_positions"].shape == batch["labels"]["slots"].shape == (4, max(words))
    for i, row in enumerate(rows):
        assert batch["labels"]["slots"][i].tolist() == row["labels"]["slots"] + [-100] * (max(words) - words[i])
        assert batch["tag_positions"][i].tolist() == row["tag_positions"] + [-1] * (max(words) - words[i])
    assert batch["labels"]["intent"].tolist() == [row["labels"]["intent"] for row in rows]


def test_rows_without_labels_make_a_batch_without_labels(data, tokenizer):
    rows = data["train"].remove_columns("labels")
    assert "labels" not in MultiTaskDataCollator(tokenizer, data.tasks)([rows[0], rows[1]])


def test_numbers_are_floats_and_missing_numbers_are_nan(tokenizer):
    rows = [{"text": "a", "score": 1.5, "many": ["x"]}, {"text": "b", "score": None, "many": None}]
    tasks = [TaskConfig("score", "sequence_classification"), TaskConfig("many", "sequence_classification")]
    data = prepare_datasets({"train": rows}, tokenizer, tasks)
    labels = MultiTaskDataCollator(tokenizer, data.tasks)([data["train"][0], data["train"][1]])["labels"]
    assert labels["score"][0].tolist() == [1.5]
    assert labels["many"][0].tolist() == [1.0]
    assert labels["score"][1].isnan().all()
    assert labels["many"][1].isnan().all()


def test_padding_to_a_multiple(data, tokenizer):
    batch = MultiTaskDataCollator(tokenizer, data.tasks, pad_to_multiple_of=16)([data["train"][0]])
    assert batch["input_ids"].shape[1] % 16 == 0


def test_rows_are_padded_on_the_right_whatever_the_tokenizer_does(data, tokenizer):
    rows = [data["train"][i] for i in range(4)]
    expected = MultiTaskDataCollator(tokenizer, data.tasks)(rows)
    tokenizer.padding_side = "left"
    found = MultiTaskDataCollator(tokenizer, data.tasks)(rows)
    for name in ("input_ids", "attention_mask", "tag_positions"):
        assert torch.equal(found[name], expected[name])


def test_a_tokenizer_without_padding_is_refused(tokenizer, tasks):
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no padding token"):
        MultiTaskDataCollator(tokenizer, tasks)


def test_prepared_rows_contain_the_inputs_of_the_model(data):
    assert isinstance(data["train"], datasets.Dataset)
    assert set(data["train"].column_names) == {
        "input_ids",
        "attention_mask",
        "labels",
        "tag_positions",
        "length",
    }
    assert len(data["train"]) == len(ROWS)
