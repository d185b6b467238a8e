"""Loader of a dataset: the parts of a split have the same rows and counts as the whole split."""

import copy

import pytest

from hf_multitask import DataConfig, TaskConfig
from hf_multitask.data import PreparationReport, dataset_loader
from hf_multitask.data.preparation import build_aligner, load_datasets
from tests.tiny import ROWS

TASKS = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
SPANS = [{"text": f"in Paris {i}", "slots": [{"start": 3, "end": 6, "label": "place"}]} for i in range(3)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(dataset_loader, "ROWS_AT_ONCE", 7)


def prepare_parts(tokenizer, write_jsonl, streaming):
    """Return the prepared columns of each part of train, and the sum of their reports."""
    config = DataConfig(train=str(write_jsonl([*copy.deepcopy(ROWS), *SPANS])), max_length=8, streaming=streaming)
    (loader,), tasks = load_datasets([config], TASKS)
    aligner = build_aligner(tokenizer, tasks, config, "train")
    columns, report = [], PreparationReport()
    for part in loader.parts("train"):
        columns.append(loader.prepare(part, tasks, aligner))
        report.add(part.report)
    return columns, report, loader, tasks, aligner


def test_parts_of_a_stream_and_of_a_whole_split_are_prepared_alike(tokenizer, write_jsonl):
    streamed, streamed_report, *_ = prepare_parts(tokenizer, write_jsonl, streaming=True)
    read, read_report, *_ = prepare_parts(tokenizer, write_jsonl, streaming=False)
    assert [len(part["input_ids"]) for part in read] == [7, 7, 7, 4]
    assert streamed == read
    assert streamed_report == read_report
    assert read_report.mismatched_spans["slots"] == 3
    assert read_report.windowed_rows > 0


def test_a_whole_split_is_prepared_as_its_parts(tokenizer, write_jsonl):
    parts, report, loader, tasks, aligner = prepare_parts(tokenizer, write_jsonl, streaming=False)
    whole = loader.prepare_split("train", tasks, aligner)
    assert loader.splits["train"].report == report
    for column in ("input_ids", "tag_positions", "window_lengths"):
        assert whole[column][:] == [row for part in parts for row in part[column]]
    assert not set(dataset_loader.COUNTED_COLUMNS) & set(whole.column_names)


def test_encoded_labels_are_kept(tokenizer, write_jsonl):
    *_, loader, tasks, aligner = prepare_parts(tokenizer, write_jsonl, streaming=False)
    part = next(loader.parts("train"))
    loader.encode(part, tasks)
    labels = part.labels
    loader.prepare(part, tasks, aligner)
    assert part.labels is labels
    assert part.report.unlabelled_rows == {"intent": 0, "slots": 0}
