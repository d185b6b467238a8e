"""JSON lines and lists under each other's name, wrappers, and exports of annotation tools with odd records."""

import json

import pytest

from hf_multitask import DataConfig, TaskConfig
from hf_multitask.data.preparation import load_datasets
from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.file_formats import open_file

ROWS = [{"text": "a", "intent": "x"}, {"text": "b", "intent": "y"}]
LINES = "\n".join(map(json.dumps, ROWS)) + "\n"
LIST = json.dumps(ROWS)
BINARY = [
    {"text": "win a lamp", "label": "SPAM", "answer": "accept"},
    {"text": "the plant closes", "label": "SPAM", "answer": "reject"},
    {"text": "hello", "label": "SPAM", "answer": "ignore"},
]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return write


def read(path, format=None, columns=None):
    return [located.row for located in open_file(path, format, columns)]


def parts(path, format=None):
    file = ChunkedFile(path, format)
    rows = [row for chunk in file for row in file.parse(chunk)]
    return [row.row for row in rows if row.row is not None], [row.reason for row in rows if row.row is None]


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("content", [LINES, LIST, json.dumps(ROWS, indent=1), "\n\n" + LINES, "[\n" + LIST[1:]])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_lines_and_lists_are_told_apart_by_their_content(name, content, write, caplog):
    assert read(write(name, content)) == ROWS
    is_list = content.lstrip().startswith("[")
    assert ("whatever its name says" in caplog.text) == (is_list != (name == "a.json"))


@pytest.mark.parametrize("wrapper", [{"data": ROWS}, {"version": "1", "classes": ["x"], "rows": ROWS}])
def test_the_only_list_of_records_in_an_object_is_read_and_named(wrapper, write, caplog):
    assert read(write("a.json", json.dumps(wrapper))) == ROWS
    assert "the records are read from the list" in caplog.text


@pytest.mark.parametrize("wrapper", [{"train": ROWS, "test": ROWS}, {"text": "a", "spans": [{"start": 0}]}, {"n": 1}])
def test_other_objects_are_refused(wrapper, write):
    with pytest.raises(ValueError, match=r"a\.json: expected a list of JSON objects, found"):
        read(write("a.json", json.dumps(wrapper)))


def test_an_item_that_is_no_object_is_skipped_alone(write):
    path = write("a.json", json.dumps([ROWS[0], None, 5, ROWS[1]]))
    rows, broken = parts(path)
    assert rows == ROWS
    assert broken == ["expected a JSON object, found 'null'.", "expected a JSON object, found '5'."]
    with pytest.raises(ValueError, match=r"a\.json, row 1: expected a JSON object, found 'null'"):
        read(path)


def test_a_broken_record_of_an_annotation_tool_is_skipped_alone(write):
    path = write("a.jsonl", '{"text": "a", "label": []}\n{"text": 5, "label": []}\nx\n{"text": "b", "label": []}\n')
    rows, broken = parts(path, "doccano")
    assert [row["text"] for row in rows] == ["a", "b"]
    assert len(broken) == 2


@pytest.mark.parametrize("wrapped", [True, False])
def test_records_of_spacy_annotators_are_read(wrapped, write, caplog):
    records = [["Mira runs", {"entities": [[0, 4, "PER"]]}], None]
    content = {"classes": ["PER"], "annotations": records} if wrapped else records
    assert len(read(write("a.json", json.dumps(content)), "spacy")) == 1
    assert "1 records that the annotator rejected or skipped are left out" in caplog.text


# Label Studio


def studio(data, **result):
    found = {"from_name": "ner", "type": "labels", "value": {"start": 0, "end": 4, "labels": ["PER"]}, **result}
    return json.dumps([{"data": data, "annotations": [{"result": [found]}]}])


def test_a_text_of_another_name_is_read(write):
    (row,) = read(write("a.json", studio({"review": "Mira runs", "n": 1})), "label_studio")
    assert row["text"] == "Mira runs"
    path = write("b.json", studio({"review": "Mira runs", "title": "T"}))
    with pytest.raises(
        ValueError, match=r"found 'review', 'title'; name the field of the text as `columns: \{text: re"
    ):
        read(path, "label_studio")
    (row,) = read(path, "label_studio", {"text": "review"})
    assert (row["text"], row["spans"][0]["label"]) == ("Mira runs", "PER")


@pytest.mark.parametrize("name", [["ner"], {"a": 1}, 5])
@pytest.mark.parametrize("kind", ["labels", "choices"])
def test_a_control_without_a_name_is_refused_with_its_record(name, kind, write):
    value = {"start": 0, "end": 4, "labels": ["PER"]} if kind == "labels" else {"choices": ["good"]}
    path = write("a.json", studio({"text": "Mira runs"}, from_name=name, type=kind, value=value))
    with pytest.raises(
        ValueError, match=r"a\.json, record 0: result 0: expected (the|a unique) name (of a|per) control"
    ):
        read(path, "label_studio")
    assert parts(path, "label_studio")[0] == []


# Prodigy


def test_a_rejected_record_of_a_binary_task_is_its_other_class(write, caplog):
    path = write("a.jsonl", lines(BINARY))
    assert [row["label"] for row in read(path, "prodigy")] == ["SPAM", "not SPAM"]
    assert "1 records that the annotator rejected or skipped are left out" in caplog.text
    task = TaskConfig("spam", "sequence_classification", column="label")
    assert load_datasets([DataConfig(train=str(path), format="prodigy")], [task])[1][0].labels == ["SPAM", "not SPAM"]


def test_a_rejected_record_of_several_labels_is_left_out(write, caplog):
    path = write("a.jsonl", lines([*BINARY, {"text": "b", "label": "NEWS", "answer": "accept"}]))
    assert [row["label"] for row in read(path, "prodigy")] == ["SPAM", "NEWS"]
    assert "2 records that the annotator rejected or skipped are left out" in caplog.text


def test_records_without_annotations_are_counted_and_have_no_label(write, caplog):
    records = [{"text": "a", "spans": []}, {"text": "b"}, {"text": "c", "cats": {"X": 1}}]
    records += [{"text": "d", "answer": "accept"}]
    assert read(write("a.jsonl", lines(records)), "prodigy") == [
        {"text": "a", "spans": []},
        {"text": "b"},
        {"text": "c"},
        {"text": "d", "spans": []},
    ]
    assert "1 accepted records without 'spans' are texts without entities" in caplog.text
    assert "2 records have neither spans nor classes: they have no label" in caplog.text
