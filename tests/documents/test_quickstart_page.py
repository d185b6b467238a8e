"""docs/QUICKSTART.md runs from its first row to its last stage, with a tiny encoder and few of the sentences."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from hf_multitask.cli import main
from tests.conftest import MINILM
from tests.documents.blocks import ROOT, claim, run_commands, run_python, write_yaml
from tests.documents.files import write_bundled

PAGE = "docs/QUICKSTART.md"
ROWS = claim(PAGE, "bash", "cp -r")
CONFIG = claim(PAGE, "yaml", "sentences.yaml")
INSPECT = claim(PAGE, "bash", "hf-multitask inspect")
TRAIN = claim(PAGE, "bash", "hf-multitask predict")
IN_PYTHON = claim(PAGE, "python", "pipe(text)")
FROM_PANDAS = claim(PAGE, "python", "pd.read_csv")
PLAN = claim(PAGE, "bash", "hf-multitask plan")
FREEZE = claim(PAGE, "bash", "--freeze encoder")
SCORE = re.compile(r"\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|")
# What another processor may differ from the page: 15 of 300 rows.
MARGIN = 0.05


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


@pytest.mark.slow
def test_a_data_frame_becomes_a_model_that_fills_a_column(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("Where is my parcel", "delivery"), ("The parcel is late", "delivery"), ("I paid twice", "billing")] * 8
    pd.DataFrame(rows, columns=["message", "kind"]).to_csv("rows.csv", index=False)
    new = run_python(FROM_PANDAS, changes={MINILM: str(encoder)})["new"]
    assert set(new["kind"]) <= {"billing", "delivery"}
    assert list(new.columns) == ["message", "kind"]


@pytest.mark.slow
def test_make_quickstart_gives_the_scores_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart"]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads(Path("out/quickstart/metrics.json").read_text())
    scores = SCORE.findall((ROOT / PAGE).read_text(encoding="utf-8"))
    assert len(scores) == 3
    for name, *numbers in scores:
        validation, test = map(float, numbers)
        assert metrics["validation"][name] == pytest.approx(validation, abs=MARGIN)
        assert metrics["test"][name] == pytest.approx(test, abs=MARGIN)
    assert re.search(r"^topic: \w+ \(0\.\d+\)$", printed, re.MULTILINE)
    assert "[Paris](LOC)" in printed
    assert printed.index("Next steps:") > printed.index("entities: ")
