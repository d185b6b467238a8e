"""The benchmarks run and write what they promise; how long they take is no matter here."""

import json
from pathlib import Path

import pytest
import yaml

from hf_multitask.data.mixing import STRATEGIES
from tests.tiny import METRIC_NAMES, ROWS

SCRIPTS = Path(__file__).parents[1] / "scripts"
SPLITS = {"train": ROWS, "validation": ROWS[:9], "test": ROWS[9:]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that runs a benchmark and returns what it has written."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import benchmark

    def run_benchmark(*arguments):
        path = tmp_path / "result.json"
        assert benchmark.main([*map(str, arguments), "--output", str(path)]) == 0
        return json.loads(path.read_text(encoding="utf-8"))

    return run_benchmark


@pytest.mark.slow
def test_data_compares_what_rows_cost(run, encoder, capsys):
    result = run("data", "--encoder", encoder, "--rows", 200, "--repeats", 1, "--sizes", 200)
    assert (result["benchmark"], result["rows"], result["repeats"]) == ("data", 200, 1)
    assert 7 < result["words"] / result["rows"] < 11
    assert list(result["alignment"]) == ["tokenizer", "aligner", "prepare", "prepare_from_cache"]
    assert list(result["mixing"]) == ["one_data_set", *STRATEGIES]
    for line in (*result["alignment"].values(), *result["mixing"].values()):
        assert list(line) == ["seconds", "ratio", "cpu_ratio", "runs"]
        assert len(line["runs"]) == 1
    assert result["alignment"]["tokenizer"]["ratio"] == result["mixing"]["one_data_set"]["ratio"] == 1
    (stream,) = result["streaming"]
    assert stream["rows"] == 200
    assert stream["rows_per_second"] > 0
    assert stream["peak_mib"] >= stream["start_mib"] > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*result["alignment"], *result["mixing"], "Streaming"))


def test_mix_compares_tasks_together_and_alone(run, encoder, write_jsonl, tmp_path, capsys):
    files = {split: str(write_jsonl(rows)) for split, rows in SPLITS.items()}
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": [{"tasks": [task], **files} for task in ("intent", "slots")],
        "training": {"num_train_epochs": 1, "use_cpu": True},
        "output_dir": str(tmp_path / "out"),
    }
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = run("mix", path, "--seeds", 0, 1)
    assert (result["benchmark"], result["config"]) == ("mix", str(path))
    together, alone = ["intent", "slots"], [["intent"], ["slots"]]
    assert [(one["seed"], one["tasks"]) for one in result["runs"]] == [
        (seed, tasks) for seed in (0, 1) for tasks in (together, *alone)
    ]
    assert all({"minutes", "validation", "test"} <= one.keys() for one in result["runs"])
    assert "intent + slots" in capsys.readouterr().out


def test_scores_are_those_of_each_seed(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    result = run("scores", "--data", tmp_path, "--encoder", encoder, "--epochs", 1, "--seeds", 3)
    (one,) = result["runs"]
    assert (result["benchmark"], one["seed"]) == ("scores", 3)
    assert list(one["test"]) == METRIC_NAMES
    assert "mean" in capsys.readouterr().out
