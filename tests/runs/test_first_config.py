"""A first config is what a person would write who looks at the files, and trains."""

import json
from pathlib import Path

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.cli import main
from hf_multitask.runs import first_config
from hf_multitask.runs.first_config import DEFAULT_ENCODER, write_first_config
from tests.conftest import MINILM
from tests.tiny import SENTENCES, save_tiny_encoder

MESSAGES = ["my invoice is wrong again", "the parcel has not arrived yet", "great service by your agent"]
CLASSES = ["billing", "delivery", "praise"]
CONLL = "Anna NNP B-PER\nlives VBZ O\nin IN O\nParis NNP B-LOC\n\nGo VB O\nto TO O\nNew NNP B-LOC\nYork NNP I-LOC\n\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["id,message,kind", *(f"{i},{MESSAGES[i % 3]} {i},{CLASSES[i % 3]}" for i in range(60))]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "ner.conll").write_text(CONLL * 20)
    return tmp_path


def written(*files, **options):
    """Write a config, check that it is read as it was returned, and return its values and its comments."""
    config = write_first_config(files, "config.yaml", overwrite=True, **options)
    text = Path("config.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert [task.name for task in RunConfig.from_file("config.yaml").tasks] == [task.name for task in config.tasks]
    return values, [line for line in text.splitlines() if line.startswith("#")]


def test_a_table(folder):
    values, comments = written("rows.csv")
    assert list(values) == ["encoder", "tasks", "data", "output_dir"], "the four keys, in this order"
    assert values == {
        "encoder": MINILM,
        "tasks": [{"name": "kind", "type": "sequence_classification"}],
        "data": {"train": "rows.csv", "validation_split": 0.2, "columns": {"text": "message"}},
        "output_dir": "out/rows",
    }
    assert "# rows.csv, 60 rows:" in comments
    assert "#   message  the text" in comments
    assert "#   kind     task kind: 3 labels: billing (20), delivery (20), praise (20)" in comments
    assert next(line for line in comments if line.startswith("#   id")).startswith("#   id       left out: ")


def test_a_conll_file_and_a_table_are_a_joint_model(folder):
    values, comments = written("ner.conll", "rows.csv")
    assert values["tasks"] == [
        {"name": "ner", "type": "token_classification"},
        {"name": "kind", "type": "sequence_classification"},
    ]
    assert [data["tasks"] for data in values["data"]] == [["ner"], ["kind"]]
    assert values["data"][0]["columns"] == {"tokens": 0, "ner": 2}
    assert any("column 1  left out: " in line for line in comments)


def test_names_with_split_words_are_splits_of_one_dataset(folder):
    for name in ("kinds-train.csv", "kinds-dev.csv", "kinds-test.csv"):
        (folder / name).write_text((folder / "rows.csv").read_text())
    values, _ = written("kinds-dev.csv", "kinds-test.csv", "kinds-train.csv")
    assert values["data"] == {
        "train": "kinds-train.csv",
        "validation": "kinds-dev.csv",
        "test": "kinds-test.csv",
        "columns": {"text": "message"},
    }
    with pytest.raises(ValueError, match="a file with training rows is missing"):
        written("kinds-dev.csv", "kinds-test.csv")


def test_a_text_file_of_words_and_tags_is_known_as_one(folder):
    (folder / "train.txt").write_text(CONLL * 5)
    values, _ = written("train.txt")
    assert values["data"]["format"] == "conll"


def test_the_same_name_for_other_labels_is_another_task(folder):
    (folder / "moods.csv").write_text("text,kind\n" + "what a day,good\nwhat a mess,bad\n" * 5)
    values, _ = written("rows.csv", "moods.csv")
    assert [task["name"] for task in values["tasks"]] == ["kind", "kind_moods"]
    assert values["tasks"][1]["column"] == "kind"
    (folder / "more.csv").write_text((folder / "rows.csv").read_text())
    values, _ = written("rows.csv", "more.csv")
    assert [task["name"] for task in values["tasks"]] == ["kind"]


def test_columns_can_be_named(folder):
    values, _ = written("rows.csv", columns={"text": "message", "about": "kind"})
    assert values["tasks"] == [{"name": "about", "type": "sequence_classification", "column": "kind"}]
    values, _ = written("ner.conll", columns={"tokens": 0, "pos": 1})
    assert values["data"]["columns"] == {"tokens": 0, "pos": 1}


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("a.csv", "text,id\na b,1\nc d,2\ne f,3\n", {}, r"no column looks like labels; .*--columns label=id"),
        ("a.csv", "p,label\nq,x\nr,x\ns,y\nt,y\n", {}, r"no column looks like texts .*--columns text=p"),
        (
            "a.csv",
            "p,q,label\n" + "".join(f"a b c {i},d e f {i},{i % 2}\n" for i in range(9)),
            {},
            r"columns 'p' and 'q' both look like texts.*--columns text=",
        ),
        (
            "a.csv",
            "text,label\na b,x\nc d,x\n",
            {"columns": {"text": "txt"}},
            "unknown column 'txt'. Did you mean 'text'",
        ),
        ("a.conll", "a b\nc d\n", {}, r"no column has tags of entities .*--columns tokens=0,ner=1"),
        ("a.conll", "a O\nc B-X\n", {"columns": {"ner": 4}}, "expected numbers from 0 to 1, found '4'"),
        ("a.json", '[{"data": {"t": "a"}, "annotations": []}]', {}, "give --format label_studio"),
        ("a.csv", "text,label\n", {}, "at least one row|no rows"),
    ],
)
def test_what_is_unclear_is_asked(name, text, options, message, folder):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        written(name, **options)
    assert not (folder / "config.yaml").exists()


def test_the_encoder_is_one_that_is_here(folder, monkeypatch):
    monkeypatch.setattr(first_config, "local_encoders", lambda: ["org/b", "org/c"])
    assert written("rows.csv")[0]["encoder"] == "org/b"
    monkeypatch.setattr(first_config, "local_encoders", list)
    assert written("rows.csv")[0]["encoder"] == DEFAULT_ENCODER
    assert written("rows.csv", encoder="org/d")[0]["encoder"] == "org/d"


def test_nothing_that_a_file_says_leaves_a_comment(folder):
    rows = [{"text": f"a b c {i}", "la: bel\n# x": "one\nencoder: evil" if i % 2 else "two\x00"} for i in range(10)]
    (folder / "odd\nencoder: x #.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values, _ = written("odd\nencoder: x #.jsonl")
    assert list(values) == ["encoder", "tasks", "data", "output_dir"]
    assert values["encoder"] == MINILM
    assert values["data"]["train"] == "odd\nencoder: x #.jsonl"
    assert values["tasks"][0]["column"] == "la: bel\n# x"


def test_paths_are_relative_to_the_config(folder):
    config = write_first_config(["rows.csv"], "configs/a.yaml")
    assert config.data.train == "../rows.csv"
    with pytest.raises(FileExistsError, match=r"configs/a.yaml exists.*--overwrite"):
        write_first_config(["rows.csv"], "configs/a.yaml")


@pytest.mark.slow
def test_three_commands_from_files_to_predictions(folder, capsys):
    save_tiny_encoder("bert", folder / "encoder")
    assert main(["init", "ner.conll", "rows.csv", "--encoder", "encoder"]) == 0
    assert "To train: hf-multitask train config.yaml" in capsys.readouterr().out
    assert main(["train", "config.yaml", "--training.num_train_epochs", "1"]) == 0
    (folder / "new.txt").write_text("\n".join(SENTENCES[:3]))
    out = ["--output", "new.jsonl"]
    assert main(["predict", "out/ner-rows", "new.txt", *out]) == 0
    predicted = [json.loads(line) for line in (folder / "new.jsonl").read_text().splitlines()]
    assert [row.keys() for row in predicted] == [{"ner", "kind"}] * 3
