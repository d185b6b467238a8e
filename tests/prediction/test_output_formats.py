"""Formats of predictions: columns of a table, and parts that are merged."""

import csv
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from hf_multitask import TaskConfig
from hf_multitask.models.predictor import OutputOptions
from hf_multitask.prediction import output_formats
from hf_multitask.prediction.output_formats import OUTPUT_FORMATS

GRADE = TaskConfig("grade", "sequence_classification", labels=["points"], problem_type="regression")
ROWS = [{"grade": {"value": i / 4}} for i in range(9)]


@pytest.fixture
def written(tmp_path):
    def write(suffix, tasks, rows, rows_per_part) -> Path:
        output = OUTPUT_FORMATS[suffix](tasks, OutputOptions())
        parts = []
        for start in range(0, len(rows), rows_per_part):
            parts.append(tmp_path / f"{start}.part")
            with parts[-1].open("wb") as file:
                output.write(file, rows[start : start + rows_per_part])
        with (tmp_path / f"out{suffix}").open("wb") as file:
            output.merge(file, parts)
        return tmp_path / f"out{suffix}"

    return write


def test_a_number_with_one_label_is_a_value_without_the_label(written):
    with written(".csv", [GRADE], ROWS, 4).open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"grade": str(row["grade"]["value"])} for row in ROWS]
    assert parquet.read_table(written(".parquet", [GRADE], ROWS, 4)).to_pylist() == ROWS


SCOPE = {"best_label": "a", "in_scope": 0.25}


@pytest.mark.parametrize(
    ("task", "prediction", "cells"),
    [
        (
            TaskConfig("mood", "sequence_classification", labels=["joy", "fear"], problem_type="regression"),
            {"values": {"joy": 0.5, "fear": 2.0}},
            {"mood_joy": "0.5", "mood_fear": "2.0"},
        ),
        (
            TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
            {"label": "a", "score": 0.5},
            {"intent": "a", "intent_score": "0.5"},
        ),
        (
            TaskConfig(
                "intent",
                "sequence_classification",
                labels=["a", "b"],
                problem_type="single_label_classification",
                abstain={"threshold": 0.5},
            ),
            {"label": None, "score": 0.5, **SCOPE},
            {"intent": "", "intent_score": "0.5", "intent_best_label": "a", "intent_in_scope": "0.25"},
        ),
    ],
)
def test_each_value_has_a_column(task, prediction, cells, written):
    rows = [{task.name: prediction}]
    with written(".csv", [task], rows, 1).open(newline="") as file:
        assert list(csv.DictReader(file)) == [cells]
    assert parquet.read_table(written(".parquet", [task], rows, 1)).to_pylist() == rows


def test_texts_in_a_cell_are_those_of_the_input(written):
    task = TaskConfig("slots", "token_classification", labels=["O", "B-x"])
    entity = {"label": "x", "start": 0, "end": 9, "text": "são paulo", "score": 0.5}
    path = written(".csv", [task], [{"slots": {"entities": [entity]}}], 1)
    assert "são paulo" in path.read_text(encoding="utf-8")
    with path.open(newline="", encoding="utf-8") as file:
        assert [json.loads(row["slots"]) for row in csv.DictReader(file)] == [[entity]]


@pytest.mark.parametrize(("rows_per_part", "groups"), [(1, [4, 4, 1]), (3, [6, 3]), (4, [4, 4, 1]), (9, [9])])
def test_parts_are_merged_into_groups_of_a_size_that_is_fast_to_read(rows_per_part, groups, written, monkeypatch):
    monkeypatch.setattr(output_formats, "_ROWS_PER_GROUP", 4)
    file = parquet.ParquetFile(written(".parquet", [GRADE], ROWS, rows_per_part))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == groups
    assert file.read().to_pylist() == ROWS
