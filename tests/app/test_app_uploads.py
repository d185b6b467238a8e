"""Uploaded files are checked before they are saved, and saved in one folder only."""

import csv
import json
import os
import shutil
from collections import namedtuple

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.app import uploads
from hf_multitask.app.uploads import MAX_UPLOAD_BYTES, describe_rows, keep_upload
from hf_multitask.app.workspace import Workspace, look_up, safe_name
from tests.tiny import ROWS


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "out")


@pytest.fixture
def receive(workspace):
    """Return a function that puts a file where Gradio puts received files."""

    def put(name, content):
        folder = workspace.received_dir / "0123"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def files_of(workspace):
    return sorted(path.name for path in workspace.data_dir.rglob("*") if path.is_file())


def test_a_good_upload_becomes_a_config_that_trains(workspace, receive, base):
    train, test = receive("My Rows (1).jsonl", jsonl(ROWS)), receive("other.JSONL", jsonl(ROWS))
    name = keep_upload(workspace, {"train": train, "validation": None, "test": test}, base)
    assert name == "My-Rows-1-1"
    assert not train.exists()
    assert not test.exists()
    config = RunConfig.from_file(look_up("data", name, workspace.datasets()))
    assert config.encoder == base.encoder
    assert [(task.name, task.type) for task in config.tasks] == [
        ("intent", "sequence_classification"),
        ("slots", "token_classification"),
    ]
    data = config.data_configs[0]
    assert data.validation_split == 0.1
    assert (data.train, data.test) == tuple(str(workspace.data_dir / name / f) for f in ("train.jsonl", "test.JSONL"))
    # The same name again is a new dataset.
    assert keep_upload(workspace, {"train": receive("My Rows (1).jsonl", jsonl(ROWS))}, base) == "My-Rows-1-2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "^upload: rows.jsonl:1: "),
        ("rows.jsonl", "no json\n", "^upload: rows.jsonl:1: expected a JSON object, found 'no json'"),
        ("rows.jsonl", "", "^upload: rows.jsonl: expected at least one row, found none"),
        ("rows.exe", jsonl(ROWS), "^upload: rows.exe: unknown extension '.exe'; give `format`"),
        (
            "rows.jsonl",
            '{"text": "a b", "id": 1}\n{"text": "c d", "id": 2}\n{"text": "e f", "id": 3}\n',
            "looks like labels",
        ),
        (
            "rows.csv",
            "a,b\n1,2\n",
            "^upload: expected a column 'text' or 'tokens', or another with texts, found 'a', 'b'",
        ),
    ],
)
def test_files_that_are_not_data_are_refused_and_not_saved(name, content, message, workspace, receive, base):
    with pytest.raises(ValueError, match=message):
        keep_upload(workspace, {"train": receive(name, content)}, base)
    assert files_of(workspace) == []


def test_an_invalid_second_file_saves_nothing_of_the_first(workspace, receive, base):
    files = {"train": receive("a.jsonl", jsonl(ROWS)), "validation": receive("b.jsonl", "no json\n")}
    with pytest.raises(ValueError, match=r"^upload: b\.jsonl:1: "):
        keep_upload(workspace, files, base)
    assert files_of(workspace) == []


def test_training_rows_are_required(workspace, receive, base):
    with pytest.raises(ValueError, match="a file with training rows is missing"):
        keep_upload(workspace, {"train": None, "test": receive("a.jsonl", jsonl(ROWS))}, base)


def test_a_gigabyte_is_refused_unread(workspace, receive, base):
    path = receive("big.jsonl", "")
    os.truncate(path, 2**30)
    assert MAX_UPLOAD_BYTES < 2**30
    with pytest.raises(ValueError, match=r"'big.jsonl' has 1 GiB; allowed are 200 MiB"):
        keep_upload(workspace, {"train": path}, base)


def test_a_full_disk_is_reported_first_and_leaves_nothing(workspace, receive, base, monkeypatch):
    path = receive("a.jsonl", jsonl(ROWS))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: usage(2**40, 2**40, 2**20))
    with pytest.raises(OSError, match="is nearly full: 1 MiB are free"):
        keep_upload(workspace, {"train": path}, base)
    monkeypatch.undo()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.shutil, "copyfile", fail)
    with pytest.raises(OSError, match="No space left"):
        keep_upload(workspace, {"train": path}, base)
    assert list(workspace.data_dir.iterdir()) == []
    assert path.exists()


@pytest.mark.parametrize("way", ["absolute", "dots", "link"])
def test_a_file_that_was_not_uploaded_is_refused(way, workspace, base, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(jsonl(ROWS))
    path = {"absolute": secret, "dots": workspace.received_dir / "../../.." / secret.name}.get(way)
    if way == "link":
        path = workspace.received_dir / "link.jsonl"
        path.symlink_to(secret)
    with pytest.raises(ValueError, match="is not an uploaded file"):
        keep_upload(workspace, {"train": path}, base)
    assert secret.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("../../x", "x"),
        ("..\\..\\x.jsonl", "x"),
        ("/etc/passwd", "passwd"),
        ("..", "data"),
        ("a b\n(1).csv", "a-b-1"),
        ("x" * 500, "x" * 60),
        ("данные.csv", "data"),
        (".hidden", "data"),
    ],
)
def test_untrusted_names_become_safe(given, expected):
    assert safe_name(given, "data") == expected


def test_columns_are_recognized():
    rows = [
        {"utterance": "play some jazz", "intent": "Play", "moods": ["a", "b"], "id": i, "price": i / 7, "eval": "x"}
        for i in range(20)
    ]
    tasks, options = describe_rows(rows)
    assert options == {"columns": {"text": "utterance"}}
    assert {task["name"]: task.get("problem_type", task["type"]) for task in tasks} == {
        "intent": "sequence_classification",
        "moods": "sequence_classification",
        "price": "regression",
    }
    spans = [{"text": "in Paris", "my spans": [{"start": 3, "end": 8, "label": "LOC"}]}]
    assert describe_rows(spans)[0] == [{"name": "my_spans", "type": "token_classification", "column": "my spans"}]
    pairs = [{"text": f"text {i}", "text_pair": "the same second", "same": "no"} for i in range(20)]
    assert [task["name"] for task in describe_rows(pairs)[0]] == ["same"]


def test_a_csv_with_other_column_names_can_be_read(workspace, receive, base, tmp_path):
    table = tmp_path / "t.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "what"])
        writer.writerows([[f"say it {i} times", "ab"[i % 2]] for i in range(30)])
    name = keep_upload(workspace, {"train": receive("t.csv", table.read_bytes())}, base)
    values = yaml.safe_load((workspace.data_dir / name / "config.yaml").read_text())
    assert values["data"] == {"columns": {"text": "utterance"}, "validation_split": 0.1, "train": "train.csv"}


def test_models_and_studies_are_found_only_in_the_folder(workspace, save_model, app_config, tmp_path, save_study):
    assert workspace.models() == {}
    save_model(app_config, workspace.root / "quick" / "one")
    save_model(app_config, tmp_path / "outside")
    (workspace.root / "link").symlink_to(tmp_path / "outside")
    (workspace.root / "other").mkdir()
    (workspace.root / "other" / "config.json").write_text('{"model_type": "bert"}')
    (workspace.root / "broken").mkdir()
    (workspace.root / "broken" / "config.json").write_text("{")
    save_study(workspace.root / "studies" / "s")
    assert workspace.models() == {"quick/one": workspace.root / "quick" / "one"}
    assert list(workspace.studies()) == ["studies/s"]
    shutil.rmtree(workspace.root / "quick")
    with pytest.raises(ValueError, match="model 'quick/one' does not exist any more"):
        look_up("model", "quick/one", workspace.models())
    with pytest.raises(ValueError, match=r"model '\.\./outside' does not exist any more"):
        look_up("model", "../outside", workspace.models())
