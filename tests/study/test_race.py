"""Races of real trainings: what drops out, how sure the choice is, resuming, and the end of the time."""

import json

import pytest

from hf_multitask import RunConfig, run_race, run_study, run_training
from hf_multitask.cli import main
from hf_multitask.runs.config_file import config_to_yaml
from hf_multitask.study import race_rungs
from hf_multitask.study.race_rungs import Length
from tests.study.studies import arguments, save_race_config

NAMES = ["encoder-frozen", "nothing-frozen", "top:1"]


@pytest.fixture(scope="module")
def race_config(tmp_path_factory):
    """Return a function that writes a config with many rows of train and test, and given training settings."""
    folder = tmp_path_factory.mktemp("a race")
    return lambda **settings: RunConfig.from_file(save_race_config(folder, **settings))


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch):
    monkeypatch.setattr(race_rungs, "MIN_ROWS", 16)
    monkeypatch.setattr(race_rungs, "MIN_STEPS", 12)


@pytest.fixture(scope="module")
def one_is_worse(race_config):
    """Return a config whose heads do not learn, so that a frozen encoder learns nothing."""
    return race_config(learning_rate=3e-2, head_learning_rate=1e-9)


@pytest.fixture(scope="module")
def all_are_equal(race_config):
    """Return a config that learns nothing in any scenario."""
    return race_config(learning_rate=1e-12, head_learning_rate=1e-12)


@pytest.fixture(scope="module")
def all_are_similar(race_config):
    """Return a config that hardly learns, so that scores differ by chance."""
    return race_config(learning_rate=1e-5, head_learning_rate=1e-5)


def decisions(race):
    """Return what a race has decided, without times."""
    rungs = [(result.rung, result.entered, result.scores, result.differences, result.dropped) for result in race.rungs]
    return race.winner, race.runner_up, race.difference, rungs


def test_what_is_worse_drops_out_in_the_first_rung(one_is_worse, tmp_path):
    shown = []
    race = run_race(one_is_worse, tmp_path / "race", NAMES[:2], on_training=shown.append)
    first = race.rungs[0]
    assert (first.rung.length.size, first.dropped) == (16, {"encoder-frozen": "worse beyond chance"})
    # One is left: neither more rows nor more seeds are trained.
    assert [(item.rung, item.done, item.of) for item in shown] == [(1, 1, 2), (1, 2, 2)]
    assert (race.winner, race.runner_up, race.is_sure) == ("nothing-frozen", "encoder-frozen", True)
    assert 0 < race.difference.low <= race.difference.mean <= race.difference.high
    assert race.recommendation.startswith(
        "Use nothing-frozen: its mean of the tasks is the highest with 16 rows and 1 seed"
    )
    assert {price.length for price in race.prices} == {Length(16)}
    saved = json.loads((tmp_path / "race" / "race.json").read_text())
    assert saved["winner"] == "nothing-frozen"
    assert "worse beyond chance" in (tmp_path / "race" / "race.md").read_text()
    assert "worse beyond chance" in repr(race)


def test_equals_go_on_and_the_race_says_that_it_is_not_sure(all_are_equal, tmp_path):
    race = run_race(all_are_equal, tmp_path / "race", [*NAMES, "heads-then-all"], seeds=2)
    assert [(result.rung.length.size, len(result.rung.seeds)) for result in race.rungs] == [(16, 1), (64, 1)]
    assert [len(result.left) for result in race.rungs] == [2, 2]
    assert not race.is_sure
    assert "this is not sure" in race.recommendation
    assert race.difference.low == race.difference.high == 0
    extrapolated = [price for price in race.prices if price.length.size == 16]
    assert {price.dropped for price in extrapolated} == {"not in the better half"}
    page = (tmp_path / "race" / "race.md").read_text()
    assert page.count("16 rows, 1 seed") == len(extrapolated) == 2


def test_few_rows_are_trained_for_few_epochs_first(all_are_similar, tmp_path, monkeypatch):
    monkeypatch.setattr(race_rungs, "MIN_ROWS", 64)
    race = run_race(all_are_similar, tmp_path / "race", NAMES, seeds=1)
    assert [result.rung.length for result in race.rungs] == [Length(64, 4), Length(64)]
    for name in NAMES:
        folder = tmp_path / "race" / "runs" / name.replace(":", "-") / "64" / "3"
        assert json.loads((folder / "short-4" / "record.json").read_text())["epochs"] == 0.75
    (winner,) = (price for price in race.prices if price.scenario == race.winner)
    assert winner.length == Length(64)
    assert "64 rows, 1/4 of the epochs, 1 seed" in (tmp_path / "race" / "race.md").read_text()
    # A study in the folder trains the full runs only, and takes those of the race for its own.
    study = run_study(all_are_similar, tmp_path / "race", NAMES, seeds=1, sizes=[64])
    assert {run.epochs for scenario in study.scenarios for run in scenario.runs} == {3.0}


@pytest.mark.slow
def test_a_race_that_is_killed_in_any_rung_and_continued_ends_the_same(all_are_similar, tmp_path, monkeypatch):
    monkeypatch.setattr(race_rungs, "SHARE", 100)
    config = all_are_similar
    whole = run_race(config, tmp_path / "whole", NAMES, seeds=2)
    assert [(result.rung.length.size, len(result.rung.seeds)) for result in whole.rungs] == [(16, 1), (64, 1), (64, 2)]
    total = len(list((tmp_path / "whole").glob("runs/**/record.json")))
    folder = tmp_path / "parts"
    for number in range(1, total):

        class KilledError(Exception):
            """The end of the process, right after a training."""

        trained = []

        def kill(progress, number=number, trained=trained, error=KilledError):
            trained.append(progress)
            if len(list(folder.glob("runs/**/record.json"))) == number:
                raise error

        with pytest.raises(KilledError):
            run_race(config, folder, NAMES, seeds=2, on_training=kill)
    resumed = run_race(config, folder, NAMES, seeds=2)
    assert decisions(resumed) == decisions(whole)


def test_trainings_of_a_study_are_not_trained_again_and_change_nothing(race_config, tmp_path):
    pytest.importorskip("jinja2")
    config = race_config(learning_rate=1e-2)
    whole = run_race(config, tmp_path / "whole", NAMES, seeds=1)
    run_study(config, tmp_path / "study", NAMES, seeds=2, sizes=[64])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").glob("runs/**/record.json")}
    after = run_race(config, tmp_path / "study", NAMES, seeds=1)
    assert decisions(after) == decisions(whole)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_end_of_the_time_ends_the_race_with_a_table(all_are_similar, tmp_path):
    config, folder = all_are_similar, tmp_path / "race"

    def stop_in_the_second_rung(progress):
        if progress.rung == 2:
            (folder / "stop").touch()

    race = run_race(config, folder, NAMES, on_training=stop_in_the_second_rung, time_budget=60)
    assert race.out_of_time
    # One training of the second rung is finished: the first rung decides.
    assert [result.rung.length.size for result in race.rungs] == [16]
    assert race.winner in race.rungs[0].left
    assert "ended before it was over" in (folder / "race.md").read_text()
    with pytest.raises(ValueError, match="stopped before two scenarios were trained: give it more time"):
        run_race(config, tmp_path / "none", NAMES, time_budget=1e-6)


def test_the_config_of_the_winner_trains_as_the_race_did(race_config, tmp_path):
    config = race_config(learning_rate=1e-2)
    race = run_race(config, tmp_path / "race", ["nothing-frozen:one-rate", "encoder[:1]"], seeds=1)
    path = tmp_path / "race" / "winner.yaml"
    text = path.read_text()
    assert text.startswith(f"# {race.recommendation[:40]}")
    loaded = RunConfig.from_file(path, {"output_dir": str(tmp_path / "trained")})
    assert "store_dir" not in loaded.training
    assert race.winner == race.rungs[-1].best
    result = run_training(loaded)
    record = next((tmp_path / "race").glob(f"runs/{race.winner.replace(':', '-')}/64/3/record.json"), None)
    assert record is not None
    assert result["test"]["intent_accuracy"] == json.loads(record.read_text())["metrics"]["test"]["intent_accuracy"]


def test_the_score_of_a_task_can_decide(one_is_worse, tmp_path):
    race = run_race(one_is_worse, tmp_path / "race", NAMES[:2], seeds=1, main_task="intent")
    assert race.metric == "intent_accuracy"
    assert "intent_accuracy" in race.recommendation
    with pytest.raises(ValueError, match=r"unknown task 'intend'\. Did you mean 'intent'"):
        run_race(one_is_worse, tmp_path / "race", NAMES[:2], main_task="intend")


def test_the_command_shows_the_time_left_the_tables_and_what_to_do(race_config, tmp_path, capsys):
    path, folder = tmp_path / "config.yaml", tmp_path / "race"
    path.write_text(config_to_yaml(race_config(learning_rate=1e-2), tmp_path, "A race", ()))
    command = arguments(path, folder, "--scenarios", ",".join(NAMES), "--sizes", "64", "--seeds", "1")
    assert main([*command, "--race", "--time-budget", "30"]) == 0
    printed = capsys.readouterr().out
    assert "rung 1 of at most 2, 1/3 encoder-frozen, 16 rows, seed 3" in printed
    assert "minutes left" in printed
    assert "Score against minutes" in printed
    assert "To train it: hf-multitask train" in printed
    assert (folder / "winner.yaml").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--race", "--sizes", "8,all"], "a race is for one number of rows, found 8, all"),
        (["--race", "--sizes", "all", "--alone"], "cannot race: leave out --race or --alone"),
        (["--main-task", "intent"], "--main-task decides a race: give --race too"),
        (["--race", "--sizes", "all", "--scenarios", "top:1,slots-alone"], "slots-alone is none: leave it out"),
        (["--race", "--sizes", "all", "--scenarios", "top:1"], "a race needs at least two, found top:1"),
    ],
)
def test_what_cannot_race_is_refused_before_anything_is_trained(options, message, config, tmp_path, capsys):
    folder = tmp_path / "race"
    assert main([*arguments(config, folder), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()
