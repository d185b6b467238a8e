"""The examples of docs/MISTAKES.md run as they are written."""

import json
from pathlib import Path

import yaml

from tests.documents.blocks import claim, run_commands, run_python
from tests.tiny import ROWS

PAGE = "docs/MISTAKES.md"
MISTAKES = claim(PAGE, "bash", "--mistakes mistakes.jsonl")
TRAINING = claim(PAGE, "bash", "label-issues run.yaml")
ISSUES = claim(PAGE, "bash", "--label-issues issues.jsonl")
TOOL = claim(PAGE, "bash", "--for label_studio")
PYTHON = claim(PAGE, "python", "review_training_rows")


def test_the_commands_and_the_program_write_their_files(save_model, folder, encoder, capsys):
    save_model("out/run")
    run_commands(MISTAKES)
    fields = json.loads(Path("mistakes.jsonl").read_text().splitlines()[0])
    assert fields.keys() == {"row", "task", "kind", "score", "given", "predicted", "text"}
    run_commands(ISSUES)
    run_commands(TOOL)
    assert {"data", "annotations", "predictions"} == json.loads(Path("review.json").read_text())[0].keys()
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": "train.jsonl"},
        "training": {"num_train_epochs": 1},
        "output_dir": "out/new",
    }
    Path("run.yaml").write_text(yaml.safe_dump(values))
    Path("issues.jsonl").unlink()
    run_commands(TRAINING)
    assert Path("issues.jsonl").is_file()
    capsys.readouterr()
    Path("review.json").unlink()
    run_python(PYTHON)
    assert len(capsys.readouterr().out.splitlines()) >= 1
    assert Path("review.json").is_file()
