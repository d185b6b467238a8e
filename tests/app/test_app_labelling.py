"""Rows that are labeled by hand: kept on the disk, and saved with labels or with spans of their text."""

import json

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.app.labelling import CHOICE, MARKS, LabelSheet, load_sheet, new_sheet, save_sheet, sheet_paths
from hf_multitask.runs.training import run_plan

TEXTS = ["play some jazz in new york, please", "will it rain in paris", "stop"]


def test_labels_are_kept_and_become_a_dataset(services):
    workspace = services.workspace
    sheet = new_sheet(workspace, "../my rows.xlsx", [*TEXTS, "  "], CHOICE, "music, weather,, music")
    assert (sheet.name, sheet.labels, len(sheet.texts)) == ("my-rows-1", ["music", "weather"], 3)
    assert sheet.first_unlabeled() == 0
    sheet.values[0], sheet.values[1] = "music", "weather"
    save_sheet(workspace, sheet)
    assert load_sheet(workspace, sheet.name) == sheet
    assert (sheet.labeled, sheet.first_unlabeled()) == (2, 2)
    name = services.save_labels(sheet)
    rows = [json.loads(line) for line in (workspace.data_dir / name / "train.jsonl").read_text().splitlines()]
    assert rows == [{"text": TEXTS[0], "label": "music"}, {"text": TEXTS[1], "label": "weather"}]
    values = yaml.safe_load((workspace.data_dir / name / "config.yaml").read_text())
    assert values["tasks"] == [{"name": "label", "type": "sequence_classification"}]
    # The sheets are no datasets.
    assert list(workspace.datasets()) == [name]
    assert list(sheet_paths(workspace)) == ["my-rows-1"]
    assert new_sheet(workspace, "my rows.csv", TEXTS, CHOICE, "a,b").name == "my-rows-2"


def test_marked_words_become_entities_of_the_text(services):
    sheet = LabelSheet("s", MARKS, ["place", "style"], TEXTS)
    words = sheet.words(0)
    sheet.mark(0, "place", [words.index("new"), words.index("york")])
    sheet.mark(0, "style", [words.index("jazz")])
    sheet.mark(1, "place", [4])
    sheet.values[2] = sheet.marks(2)
    rows = sheet.rows()
    found = [[(row["text"][e["start"] : e["end"]], e["label"]) for e in row["entities"]] for row in rows]
    assert found == [[("jazz", "style"), ("new york", "place")], [("paris", "place")], []]
    # Another label of a word replaces the first, and unticking takes it away.
    sheet.mark(0, "style", [words.index("new")])
    assert [label for label in sheet.marks(0) if label] == ["style", "place"]
    sheet.mark(0, "place", [])
    assert [label for label in sheet.marks(0) if label] == ["style"]


def test_a_model_can_be_trained_on_marked_words(services):
    sheet = LabelSheet("s", MARKS, ["place"], [f"fly to paris {i}" for i in range(20)])
    for i in range(20):
        sheet.mark(i, "place", [2])
    name = services.save_labels(sheet)
    config = RunConfig.from_file(services.workspace.datasets()[name])
    assert "head.entities" in run_plan(config)[0].trained_groups


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [(CHOICE, "one", "expected 2 to 30 names"), (MARKS, " , ", "expected 1 to 30 names")],
)
def test_too_few_labels_are_refused(kind, labels, message, services):
    with pytest.raises(ValueError, match=message):
        new_sheet(services.workspace, "a", TEXTS, kind, labels)
    with pytest.raises(ValueError, match="there are no texts"):
        new_sheet(services.workspace, "a", [" "], CHOICE, "a, b")
    with pytest.raises(ValueError, match="'gone' does not exist any more"):
        load_sheet(services.workspace, "gone")
    with pytest.raises(ValueError, match="no row has a label yet"):
        services.save_labels(LabelSheet("s", CHOICE, ["a", "b"], TEXTS))
