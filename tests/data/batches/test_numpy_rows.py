"""Rows as NumPy views of Arrow columns: same values and batches as from the dataset."""

import pickle

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from hf_multitask import MultiTaskDataCollator, TaskConfig, prepare_datasets
from hf_multitask.data.batches.numpy_rows import NumpyRowsDataset, with_numpy_rows
from tests.tiny import SENTENCES, make_tokenizer

TASKS = [
    TaskConfig("intent", "sequence_classification"),
    TaskConfig("topics", "sequence_classification", problem_type="multi_label_classification"),
    TaskConfig("slots", "token_classification"),
]


@pytest.fixture(scope="module")
def prepared():
    long = " ".join(SENTENCES * 2)
    rows = [
        {
            "tokens": text.split(),
            "intent": "ab"[i % 2],
            "topics": ["x", "y"][: i % 3],
            "slots": ["B-z"] + ["O"] * (len(text.split()) - 1) if i % 4 else None,
        }
        for i, text in enumerate([*SENTENCES, long] * 3)
    ]
    return prepare_datasets({"train": rows}, make_tokenizer("wordpiece"), TASKS)


@pytest.fixture(scope="module")
def collate(prepared):
    return MultiTaskDataCollator(make_tokenizer("wordpiece"), prepared.tasks)


def views(rows):
    """Yield the rows in each form that a dataset can have, with its name."""
    halves = [rows.select(range(4)), rows.select(range(4, len(rows)))]
    yield "whole", rows
    yield "shuffled", rows.shuffle(seed=0)
    yield "some", rows.select([7, 3, 3, 12])
    yield "a range", rows.select(range(3, 9))
    yield "joined", datasets.concatenate_datasets([*halves, rows])
    yield "numbered", datasets.concatenate_datasets(halves).add_column("row_number", np.arange(len(rows)))


def as_lists(value):
    if isinstance(value, dict):
        return {name: as_lists(item) for name, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(-7), other.nan_to_num(-7))
    return one == other


def test_rows_and_batches_equal_those_of_the_dataset(prepared, collate):
    for name, rows in views(prepared["train"]):
        viewed = with_numpy_rows(rows, collate.columns)
        assert isinstance(viewed, NumpyRowsDataset), name
        keys = np.random.default_rng(0).integers(0, len(rows), 9).tolist()
        expected = [
            {key: row[key] for key in rows.column_names if key in collate.columns}
            for row in map(rows.__getitem__, keys)
        ]
        assert [as_lists(row) for row in viewed.__getitems__(keys)] == expected, name
        assert equal(collate(viewed.__getitems__(keys)), collate(rows.__getitems__(keys))), name
    assert "row_windows" in collate(prepared["train"].__getitems__(range(len(prepared["train"]))))


def test_nothing_is_copied(prepared, collate, tmp_path):
    prepared["train"].save_to_disk(tmp_path)
    viewed = with_numpy_rows(datasets.load_from_disk(tmp_path), collate.columns)
    before = pa.total_allocated_bytes()
    row = viewed.__getitems__([5])[0]
    assert pa.total_allocated_bytes() == before
    assert not row["input_ids"].flags.owndata


def test_a_worker_process_makes_its_own_views(prepared, collate):
    viewed = with_numpy_rows(prepared["train"], collate.columns)
    expected = list(DataLoader(viewed, batch_size=5, collate_fn=collate))
    assert "_views" not in pickle.loads(pickle.dumps(viewed)).__dict__
    spawned = DataLoader(viewed, batch_size=5, collate_fn=collate, num_workers=1, multiprocessing_context="spawn")
    assert all(equal(one, other) for one, other in zip(spawned, expected, strict=True))


def test_other_columns_stay_lists(prepared, collate):
    rows = prepared["train"].select(range(4))
    missing = rows.remove_columns("tag_positions").add_column("tag_positions", [[1], None, [2], [3]])
    transformed = rows.with_transform(lambda batch: batch)
    nested = rows.add_column("window_lengths_", [[[1]]] * 4)
    assert with_numpy_rows(missing, collate.columns) is missing
    assert with_numpy_rows(transformed, collate.columns) is transformed
    assert with_numpy_rows(nested, ["window_lengths_"]) is nested
    empty = rows.select([])
    assert with_numpy_rows(empty, collate.columns) is empty
