"""Fixtures of the tests of pages: a working folder with rows, and a saved model of their tasks."""

import pytest

from hf_multitask import MultiTaskModel
from tests.tiny import ROWS


@pytest.fixture
def folder(tmp_path, write_jsonl, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, rows in (("train", ROWS), ("validation", ROWS[:8]), ("test", ROWS[8:])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    return tmp_path


@pytest.fixture
def save_model(folder, encoder, data, tokenizer):
    """Return a function that saves a tiny model with the tasks intent and slots to a folder."""

    def save(path):
        MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained(path)
        tokenizer.save_pretrained(path)

    return save
