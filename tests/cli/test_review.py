"""Mistakes and wrong labels from the command line."""

import json

import pytest
import yaml

from hf_multitask.cli import main
from tests.tiny import ROWS


@pytest.fixture(scope="module")
def config(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    for split, rows in (("train", ROWS), ("validation", ROWS[:9])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
        "output_dir": str(folder / "out"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", str(path)]) == 0
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_evaluate_lists_mistakes_and_wrong_labels(config, tmp_path, capsys):
    data = str(config.parent / "validation.jsonl")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("mistakes", "issues")}
    arguments = ["--mistakes", str(files["mistakes"]), "--label-issues", str(files["issues"])]
    assert main(["evaluate", str(config.parent / "out"), data, *arguments]) == 0
    printed = capsys.readouterr().out
    mistakes = lines(files["mistakes"])
    assert mistakes
    assert [one["score"] for one in mistakes] == sorted((one["score"] for one in mistakes), reverse=True)
    assert f"{len(mistakes)} mistakes in 9 rows" in printed.replace("\n", " ")
    assert "commonest of" in printed
    for one in mistakes:
        assert one["text"] == " ".join(ROWS[one["row"] - 1]["tokens"])
        if one["task"] == "intent":
            assert one["given"]["label"] == ROWS[one["row"] - 1]["intent"] != one["predicted"]["label"]
    assert [one["quality"] for one in lines(files["issues"])] == sorted(
        one["quality"] for one in lines(files["issues"])
    )


def test_a_file_for_a_tool_is_trained_on_again(config, tmp_path):
    data = str(config.parent / "validation.jsonl")
    path = tmp_path / "review.json"
    arguments = ["--mistakes", str(path), "--for", "label_studio"]
    assert main(["evaluate", str(config.parent / "out"), data, *arguments]) == 0
    again = ["--format", "label_studio", "--columns", "slots=spans", "--output", str(tmp_path / "scores.json")]
    assert main(["evaluate", str(config.parent / "out"), str(path), *again]) == 0
    support = json.loads((tmp_path / "scores.json").read_text())["support"]
    assert support["intent"]["rows"] == support["slots"]["rows"] == len(json.loads(path.read_text())) > 0


def test_training_rows_are_listed(config, tmp_path, capsys):
    path = tmp_path / "issues.jsonl"
    assert main(["label-issues", str(config), "--output", str(path), "--folds", "2", "--share", "0.5"]) == 0
    assert len(lines(path)) >= 22  # half of the rows for each of two tasks
    assert f"{len(lines(path))} labels in 22 rows" in capsys.readouterr().out.replace("\n", " ")
    assert all(1 <= one["row"] <= 22 for one in lines(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--for", "doccano"], "--for: expected a file"),
        (["--for", "docano", "--mistakes", "m.jsonl"], "unknown annotation tool 'docano'"),
    ],
)
def test_wrong_options_are_one_line(config, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = str(config.parent / "validation.jsonl")
    assert main(["evaluate", str(config.parent / "out"), data, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_wrong_share_is_one_line(config, tmp_path, capsys):
    assert main(["label-issues", str(config), "--output", str(tmp_path / "i.jsonl"), "--share", "4"]) == 2
    assert "--share must be a number in [0, 1], found 4.0" in capsys.readouterr().err
