"""The benchmark of the common advice: it trains, and its table matches the runs."""

import json
from pathlib import Path

import pytest

from tests.tiny import ROWS

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)


def run(rows, freeze, seed, accuracy, f1=0.5):
    return {"rows": rows, "freeze": freeze, "seed": seed, "test": {"intent_accuracy": accuracy, "slots_f1": f1}}


def test_the_table_marks_advice_that_does_not_hold(scripts):
    from benchmarks.rules import table

    runs = [
        run(50, "encoder", 0, 0.80),
        run(50, "none", 0, 0.84, 0.4),
        run(50, "encoder", 1, 0.82),
        run(50, "none", 1, 0.85, 0.6),
    ]
    header, _, accuracy, f1 = table(runs)
    assert header == "| rows | score on test | encoder frozen | nothing frozen | usual advice | holds |"
    assert accuracy == (
        "| 50 | intent accuracy | 81.0 ± 1.0 | 84.5 ± 0.5 | encoder frozen | no: nothing frozen +3.5 |"
    )
    assert f1.endswith("| encoder frozen | yes |"), "better with only one seed is not better"


def test_the_benchmark_trains_and_writes_its_runs(scripts, tmp_path, write_jsonl, encoder, capsys):
    import benchmark

    for split in ("train", "validation", "test"):
        write_jsonl(ROWS, tmp_path / f"{split}.jsonl")
    arguments = ["rules", "--data", tmp_path, "--encoder", encoder, "--sizes", 6, 12, "--freeze", "encoder", "top:1"]
    arguments += ["--seeds", 0, "--least-steps", 3, "--least-epochs", 1, "--output", tmp_path / "rules.json"]
    assert benchmark.main([str(argument) for argument in arguments]) == 0
    result = json.loads((tmp_path / "rules.json").read_text())
    assert [(run["rows"], run["freeze"], run["epochs"]) for run in result["runs"]] == [
        (6, "encoder", 3),
        (6, "top:1", 3),
        (12, "encoder", 3),
        (12, "top:1", 3),
    ]
    assert "| 6 | intent accuracy |" in capsys.readouterr().out
