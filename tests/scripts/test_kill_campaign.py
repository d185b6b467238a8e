"""The campaign of kills runs, and finds what a resumed run does not restore."""

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"
# A run that forgets the sums since the last log.
FORGETTING = """
import sys
import kill_campaign
from hf_multitask.training.logged_sums import LoggedSums
LoggedSums.begin = lambda self, *_: None
sys.exit(kill_campaign.main())
"""


def campaign(folder, *arguments, program=("kill_campaign.py",)):
    """Run the campaign in a new process, which forks runs."""
    return subprocess.run(
        [sys.executable, *program, "--folder", str(folder), *arguments],
        cwd=SCRIPTS,
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}"},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_resumed_runs_equal_uninterrupted_ones(tmp_path):
    series = ["map dataset, by steps", "stream"]
    done = campaign(tmp_path, "--kills", "4", "--seed", "1", "--series", *series)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()
    assert all(" equal after " in line for line in printed[:-4])
    header, *lines, total = (line.rsplit(maxsplit=7) for line in printed[-4:])
    assert header == ["series", "runs", "kills", "failed", "weights", "optimizer", "history", "metrics"]
    assert [name for name, *_ in lines] == series
    assert [name for name, *_ in (total,)] == ["all"]
    assert int(total[2]) == sum(int(line[2]) for line in lines) == 4
    assert total[3:] == ["0"] * 5


@pytest.mark.slow
def test_a_run_that_forgets_what_it_has_not_logged_is_found(tmp_path):
    series = ("--series", "map dataset, by steps", "--kills", "8")
    done = campaign(tmp_path, *series, program=("-c", FORGETTING))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "map dataset, by steps: history after" in done.stdout
    assert "resumed" in done.stdout
    *_, failed, weights, optimizer, history, _ = done.stdout.splitlines()[-1].split()
    assert (failed, weights, optimizer) == ("0", "0", "0")
    assert int(history) > 0


@pytest.fixture
def killing(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import killing.comparison
    import killing.runs

    return killing


def write_run(folder, outcome, weight=1.0):
    (folder / "out").mkdir(parents=True)
    torch.save(outcome, folder / "outcome.pt")
    save_file({"a": torch.tensor([weight]), "b": torch.zeros(2)}, folder / "out" / "model.safetensors")
    (folder / "out" / "metrics.json").write_text(json.dumps({"test": {"loss": 0.5}}))
    return folder


OUTCOME = {
    "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    "lr_scheduler": {"last_epoch": 3},
    "history": [{"loss": 1.5, "step": 2}, {"train_runtime": 1.0, "step": 3}],
    "steps": 3,
}


def test_what_differs_is_named(killing, tmp_path):
    whole = write_run(tmp_path / "whole", OUTCOME)
    other = copy.deepcopy(OUTCOME)
    other["history"][1]["train_runtime"] = 9.0
    same = write_run(tmp_path / "same", other)
    assert killing.comparison.compare(whole, same) == {
        "weights": [],
        "optimizer": [],
        "history": [],
        "metrics": [],
    }
    other["optimizer"]["state"][0]["exp_avg"] = torch.ones(2) + 1e-7
    other["history"][0]["loss"] = 1.25
    found = killing.comparison.compare(whole, write_run(tmp_path / "other", other, weight=1.0000001))
    assert [name.split(":")[0] for name in found["weights"]] == ["weights.a"]
    assert [name.split(":")[0] for name in found["optimizer"]] == ["optimizer.optimizer.state.0.exp_avg"]
    assert found["history"] == ["history.0.loss: 1.5, resumed 1.25"]
    assert found["metrics"] == []
    del other["history"][1]
    found = killing.comparison.compare(whole, write_run(tmp_path / "shorter", other))
    assert len(found["history"]) == 1


def test_moments_are_drawn_by_the_clock_and_by_the_files(killing):
    length = killing.runs.Length(2.0, {"a": 3, "b": 1})
    generator = random.Random(0)
    kills = [length.draw(generator) for _ in range(200)]
    seconds = [kill.seconds for kill in kills if kill.seconds is not None]
    changes = {(kill.file, kill.change) for kill in kills if kill.seconds is None}
    assert 60 < len(seconds) < 140
    assert all(0 <= second <= 2 for second in seconds)
    assert changes == {("a", 1), ("a", 2), ("a", 3), ("b", 1)}
