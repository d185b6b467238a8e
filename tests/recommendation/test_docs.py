"""The commands of docs/FREEZING.md run as they are written."""

import pytest
import yaml

from tests.documents.blocks import claim, run_commands
from tests.tiny import ROWS

COMMANDS = claim("docs/FREEZING.md", "bash", "hf-multitask recommend")


@pytest.fixture
def folder(tmp_path, write_jsonl, encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, rows in (("train", ROWS), ("validation", ROWS[:8])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "output_dir": "out",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return tmp_path


def test_the_three_commands(folder):
    run_commands(COMMANDS)
    assert (folder / "out" / "metrics.json").is_file()
