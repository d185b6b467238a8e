"""Races whose process is killed in the middle: what the resumed race ends with."""

import json
import multiprocessing
import random
import time

import pytest

from hf_multitask import RunConfig, run_race
from hf_multitask.study import race_rungs
from tests.study.studies import save_race_config

NAMES = ["encoder-frozen", "nothing-frozen", "top:1"]
SEEDS = 2
# Trainings of the race: three short ones, the two that go on, and each of these with another seed.
TRAININGS = 7
POLL_SECONDS, GREATEST_DELAY = 0.002, 0.3
GREATEST_WAIT = 120


def run(path, folder):
    """Train a race with all of its rungs."""
    race_rungs.MIN_ROWS, race_rungs.MIN_STEPS, race_rungs.SHARE = 64, 12, 100
    run_race(RunConfig.from_file(path), folder, NAMES, SEEDS)


def start(path, folder):
    """Start a process that trains a race."""
    # Its processes are forked from one that has imported the package and trained nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.study.test_race_kill"])
    process = context.Process(target=run, args=(path, folder))
    process.start()
    return process


def results(folder):
    """Return what a race has saved, without times."""
    race = json.loads((folder / "race.json").read_text())
    del race["recommendation"], race["cheaper"]
    for item in race["rungs"]:
        del item["seconds"]
    for price in race["prices"]:
        del price["minutes"]
    return race


def wait_until(is_reached, process):
    """Return whether a moment is reached before the process ends."""
    end = time.monotonic() + GREATEST_WAIT
    while process.is_alive() and time.monotonic() < end:
        if is_reached():
            return True
        time.sleep(POLL_SECONDS)
    return False


@pytest.mark.slow
def test_a_race_that_is_killed_at_any_moment_ends_with_the_same_table(tmp_path):
    path = save_race_config(tmp_path, learning_rate=1e-5, head_learning_rate=1e-5)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    process = start(path, whole)
    process.join(GREATEST_WAIT)
    assert process.exitcode == 0
    assert len(list(whole.glob("runs/**/record.json"))) == TRAININGS
    delays, cut = random.Random(0), 0
    for number in range(TRAININGS):
        process = start(path, folder)

        def is_training(number=number):
            return len(list(folder.glob("runs/**/record.json"))) >= number and any(folder.glob("runs/**/training"))

        assert wait_until(is_training, process)
        # Every other one at the start of a training, the others at any moment after that.
        time.sleep(delays.uniform(0, GREATEST_DELAY) if number % 2 else 0)
        process.kill()
        process.join()
        assert process.exitcode != 0
        cut += any(folder.glob("runs/**/training"))
    # Some were killed while a training was in progress, not between two.
    assert cut >= 2
    process = start(path, folder)
    process.join(GREATEST_WAIT)
    assert process.exitcode == 0
    assert results(folder) == results(whole)
