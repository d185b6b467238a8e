"""docs/QUICKSTART.md runs from its first row to its last stage, with a tiny encoder and few of the sentences."""

import json
from pathlib import Path

import pytest

from tests.conftest import MINILM
from tests.documents.blocks import claim, run_commands, run_python, write_yaml
from tests.documents.files import write_bundled

PAGE = "docs/QUICKSTART.md"
ROWS = claim(PAGE, "bash", "cp -r")
CONFIG = claim(PAGE, "yaml", "sentences.yaml")
INSPECT = claim(PAGE, "bash", "hf-multitask inspect")
TRAIN = claim(PAGE, "bash", "hf-multitask predict")
IN_PYTHON = claim(PAGE, "python", "pipeline(")
PLAN = claim(PAGE, "bash", "hf-multitask plan")
FREEZE = claim(PAGE, "bash", "--freeze encoder")


@pytest.mark.slow
def test_the_quickstart(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_bundled(tmp_path / "bundled", num_rows=60)
    run_commands(ROWS, {"hf_multitask/quickstart/data": "bundled"})
    # So few rows lack some of the labels.
    write_yaml(CONFIG, {MINILM: str(encoder), "test.jsonl}": "test.jsonl, unseen_labels: ignore}"})

    run_commands(INSPECT)
    assert "topic" in capsys.readouterr().out

    run_commands(TRAIN, {"evaluate out/sentences": "evaluate --unseen-labels ignore out/sentences"})
    assert "entities_f1" in capsys.readouterr().out
    assert len(Path("predictions.jsonl").read_text().splitlines()) == 60
    assert json.loads(Path("out/sentences/metrics.json").read_text()).keys() == {"validation", "test"}

    run_python(IN_PYTHON)
    assert capsys.readouterr().out.splitlines()[0] in ("Other", "Technology", "Weather")

    run_commands(PLAN)
    assert "three" not in capsys.readouterr().err
    run_commands(FREEZE)
    stages = json.loads(Path("out/three-stage/stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "upper third", "all"]
