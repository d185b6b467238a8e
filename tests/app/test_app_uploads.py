"""Uploaded files are checked before they are saved, and saved in one folder only."""

import json
import os
import shutil
from collections import namedtuple

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.app import uploads
from hf_multitask.app.uploads import MAX_UPLOAD_BYTES, ReceivedFile, look_at, receive_text, save_data
from hf_multitask.app.workspace import Workspace, look_up, safe_name
from hf_multitask.data.readers.reading_options import ReadingOptions
from hf_multitask.runs.training import run_plan
from tests.tiny import ROWS


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "out")


@pytest.fixture
def receive(workspace):
    """Return a function that puts a file where Gradio puts received files."""

    def put(name, content):
        # Gradio makes a folder for each file.
        folder = workspace.received_dir / str(len(list(workspace.received_dir.iterdir())))
        folder.mkdir()
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def files_of(workspace):
    return sorted(path.name for path in workspace.data_dir.rglob("*") if path.is_file())


def received(path, roles=None, **options):
    return ReceivedFile(path, ReadingOptions(**options), roles or {})


def save(workspace, base, train, others=None, leave_out=False):
    return save_data(workspace, received(train), others or {}, base, leave_out)


def test_a_good_upload_becomes_a_config_that_trains(workspace, receive, base):
    train, test = receive("My Rows (1).jsonl", jsonl(ROWS)), receive("other.JSONL", jsonl(ROWS))
    name = save(workspace, base, train, {"validation": None, "test": test})
    assert name == "My-Rows-1-1"
    assert not train.exists()
    assert not test.parent.exists()
    config = RunConfig.from_file(look_up("data", name, workspace.datasets()))
    assert config.encoder == base.encoder
    # Settings are chosen from the rows, not taken from the other data.
    assert config.training == {}
    assert [(task.name, task.type) for task in config.tasks] == [
        ("intent", "sequence_classification"),
        ("slots", "token_classification"),
    ]
    data = config.data_configs[0]
    assert data.validation_split == 0.2
    assert (data.train, data.test) == tuple(
        str(workspace.data_dir / name / f"{split}.jsonl") for split in ("train", "test")
    )
    assert run_plan(config)
    # The same name again is a new dataset.
    assert save(workspace, base, receive("My Rows (1).jsonl", jsonl(ROWS))) == "My-Rows-1-2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "^upload: rows.jsonl:1: "),
        ("rows.jsonl", "no json\n", "^upload: rows.jsonl:1: expected a JSON object, found 'no json'"),
        ("rows.jsonl", "", "^upload: rows.jsonl: expected at least one row, found none"),
        ("rows.exe", jsonl(ROWS), "^upload: rows.exe: unknown extension '.exe'; give `format`"),
        ("rows.docx", b"PK", r"^upload: rows.docx: .* Save the table as \.xlsx or CSV"),
        ("rows.xlsx", b"PK\x03\x04", r"^upload: rows.xlsx: expected an Excel file"),
    ],
)
def test_files_that_are_no_data_are_refused_and_deleted(name, content, message, workspace, receive, base):
    path = receive(name, content)
    with pytest.raises(ValueError, match=message):
        look_at(workspace, received(path))
    assert not path.parent.exists()
    assert files_of(workspace) == []


def test_a_choice_that_does_not_work_keeps_the_file(workspace, receive):
    path = receive("rows.csv", "text,label\na b,x\n")
    with pytest.raises(ValueError, match=r"^upload: "):
        look_at(workspace, received(path, encoding="utf-16"))
    assert path.exists()
    assert look_at(workspace, received(path)).report.usable == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", "".join(f'{{"text": "a b {i}", "id": {i}}}\n' for i in range(3)), "no column has labels"),
        ("rows.csv", "a,b\n1,2\n1,3\n", "no column has texts"),
        (
            "rows.csv",
            "text,label\na b,x\nc d,y,z\n,x\n",
            "rows that cannot be used: 2, the first in line 3: expected 2",
        ),
    ],
)
def test_rows_without_texts_or_labels_are_not_saved(name, content, message, workspace, receive, base):
    with pytest.raises(ValueError, match=f"^upload: .*{message}"):
        save(workspace, base, receive(name, content))
    assert files_of(workspace) == []


def test_rows_that_cannot_be_used_are_named_and_left_out(workspace, receive, base):
    path = receive("rows.csv", "text,label\na b,x\nc d,y,z\n,x\ne f,y\ng h,\n")
    report = look_at(workspace, received(path)).report
    first, second = report.problems
    assert first.number == 3
    assert first.problem.startswith("expected 2 cells (text")
    assert (second.number, second.problem[:20]) == (4, "the text is missing.")
    assert (report.usable, report.unlabeled) == (3, 1)
    assert report.counts == {"label": {"x": 1, "y": 1}}
    name = save(workspace, base, path, leave_out=True)
    lines = (workspace.data_dir / name / "train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": "a b", "label": "x"},
        {"text": "e f", "label": "y"},
        {"text": "g h", "label": None},
    ]


def test_tags_and_numbers_are_checked_by_row(workspace, receive):
    rows = [{"tokens": ["in", "Paris"], "ner": ["O", "B-LOC"], "score": 0.5}, {"tokens": ["a"], "ner": ["O", "O"]}]
    seen = look_at(workspace, received(receive("rows.jsonl", jsonl(rows)), roles={"ner": "tags", "score": "number"}))
    assert [tuple(problem) for problem in seen.report.problems] == [
        (2, "column 'ner': expected one tag per word, found 2 tags for 1 words.")
    ]
    table = receive("rows.csv", "text,score\na b,0.5\nc d,much\n")
    report = look_at(workspace, received(table, roles={"text": "text", "score": "number"})).report
    assert [tuple(problem) for problem in report.problems] == [(3, "column 'score': expected a number, found 'much'.")]


def test_a_european_table_is_saved_as_utf_8(workspace, receive, base):
    lines = ["Text;Größe", *(f"schöne Grüße, {i};{'groß' if i % 2 else 'klein'}" for i in range(20))]
    name = save(workspace, base, receive("t.csv", "\n".join(lines).encode("cp1252")))
    values = yaml.safe_load((workspace.data_dir / name / "config.yaml").read_text())
    assert values["data"] == {"validation_split": 0.2, "train": "train.jsonl"}
    assert values["tasks"] == [{"name": "Gr_e", "type": "sequence_classification", "column": "Größe"}]
    first = json.loads((workspace.data_dir / name / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"text": "schöne Grüße, 0", "Größe": "klein"}


def test_pasted_cells_are_read_like_a_file(workspace, base):
    path = receive_text(workspace, "text\tlabel\nplay jazz\tmusic\nwill it rain\tweather\nplay on\tmusic\n")
    assert look_at(workspace, received(path)).report.usable == 3
    assert save(workspace, base, path) == "pasted-1"
    with pytest.raises(ValueError, match="nothing was pasted"):
        receive_text(workspace, " \n")


def test_other_files_have_the_columns_of_the_training_rows(workspace, receive, base):
    train = receive("a.csv", "was,wie\n" + "".join(f"say {i} times,{'ab'[i % 2]}\n" for i in range(20)))
    test = receive("b.csv", "wie;was\n" + "".join(f"{'ab'[i % 2]};{i}\n" for i in range(3)))
    name = save(workspace, base, train, {"test": test})
    first = (workspace.data_dir / name / "test.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"wie": "a", "text": "0"}


def test_an_invalid_second_file_saves_nothing_of_the_first(workspace, receive, base):
    train = receive("a.jsonl", jsonl(ROWS))
    with pytest.raises(ValueError, match=r"^upload: b\.jsonl:1: "):
        save(workspace, base, train, {"validation": receive("b.jsonl", "no json\n")})
    assert files_of(workspace) == []


def test_a_gigabyte_is_refused_unread_and_deleted(workspace, receive, base):
    path = receive("big.jsonl", "")
    os.truncate(path, 2**30)
    assert MAX_UPLOAD_BYTES < 2**30
    with pytest.raises(ValueError, match=r"'big.jsonl' has 1 GiB; allowed are 200 MiB"):
        look_at(workspace, received(path))
    assert not path.exists()


def test_a_full_disk_is_reported_first_and_leaves_nothing(workspace, receive, base, monkeypatch):
    path = receive("a.jsonl", jsonl(ROWS))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: usage(2**40, 2**40, 2**20))
    with pytest.raises(OSError, match="is nearly full: 1 MiB are free"):
        save(workspace, base, path)
    monkeypatch.undo()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads, "write_jsonl", fail)
    with pytest.raises(OSError, match="No space left"):
        save(workspace, base, path)
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
        save(workspace, base, path)
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
