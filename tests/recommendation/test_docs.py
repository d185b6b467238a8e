"""The commands of docs/FREEZING.md run as they are written."""

from pathlib import Path

import pytest
import yaml

from hf_multitask.cli import main
from tests.tiny import ROWS

DOC = (Path(__file__).parents[2] / "docs" / "FREEZING.md").read_text(encoding="utf-8")


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
    block = DOC.split("```bash\n")[1].split("```")[0]
    commands = block.splitlines()
    assert [command.split()[1] for command in commands] == ["recommend", "plan", "train"]
    for command in commands:
        assert main(command.split()[1:]) == 0
    assert (folder / "out" / "metrics.json").is_file()
