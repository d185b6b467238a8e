"""A study that is stopped, or whose time is up, has the results of its finished runs and can be continued."""

import json

import pytest

from hf_multitask import RunConfig, load_study, run_study
from hf_multitask.cli import main
from tests.study.studies import arguments

PAIR = ["encoder-frozen", "nothing-frozen"]


@pytest.fixture(scope="module")
def run_config(config):
    return RunConfig.from_file(config)


def run_names(study):
    return {(scenario.name, run.seed) for scenario in study.scenarios for run in scenario.runs}


def test_each_scenario_is_trained_once_before_any_twice_and_the_rest_is_left_out(run_config, tmp_path):
    folder, stop = tmp_path / "study", tmp_path / "stop"
    names = []

    def on_run(name, result, number, total):
        names.append((name, number, total))
        if number == 3:
            stop.touch()

    study = run_study(run_config, folder, PAIR, seeds=2, on_run=on_run, stop_file=stop)
    assert [name.split(", ")[0] for name, _, _ in names] == [*PAIR, PAIR[0]]
    assert {total for _, _, total in names} == {4}
    first = run_config.training_arguments().seed
    assert run_names(study) == {(PAIR[0], first), (PAIR[1], first), (PAIR[0], first + 1)}
    loaded = load_study(folder)
    assert (loaded.scenarios, loaded.skipped, loaded.winner) == (study.scenarios, study.skipped, study.winner)
    assert (folder / "study.html").is_file()
    # Continued without the file, it trains what is missing.
    stop.unlink()
    names.clear()
    study = run_study(run_config, folder, PAIR, seeds=2, on_run=on_run, stop_file=tmp_path / "other")
    assert len(run_names(study)) == len(names) == 4
    assert study.skipped == []


def test_a_scenario_that_was_not_reached_is_named(run_config, tmp_path):
    folder = tmp_path / "study"
    study = run_study(run_config, folder, PAIR, seeds=1, on_run=lambda *_: (folder / "stop").touch())
    assert run_names(study) == {(PAIR[0], run_config.training_arguments().seed)}
    assert [item["scenario"] for item in study.skipped] == [PAIR[1]]
    assert "the study was stopped before this was trained" in (folder / "study.md").read_text()
    assert study.winner is None
    # The file stopped that call, not the next one.
    assert len(run_names(run_study(run_config, folder, PAIR, seeds=1))) == 2


def test_the_run_in_progress_ends_when_the_time_is_up_and_is_left_out(config, tmp_path, capsys):
    folder = tmp_path / "study"
    command = arguments(config, folder)[:3]
    more = ["--scenarios", "nothing-frozen", "--epochs", "100000", "--seeds", "1", "--output", str(folder)]
    assert main([*command[:2], *more, "--time-budget", "0.05"]) == 2
    assert "the study was stopped before its first run was finished" in capsys.readouterr().err
    assert not list(folder.glob("runs/**/record.json"))
    assert not list(folder.glob("runs/**/training"))


@pytest.mark.slow
def test_workers_stop_too(run_config, tmp_path):
    folder = tmp_path / "study"
    study = run_study(run_config, folder, PAIR, seeds=4, processes=2, on_run=lambda *_: (folder / "stop").touch())
    # Each of the two workers finishes the run that it trains.
    assert 1 <= len(run_names(study)) <= 4


def test_the_winner_can_be_trained_again(run_config, tmp_path):
    study = run_study(run_config, tmp_path / "study", ["gradual", "nothing-frozen:one-rate"], seeds=1)
    values = json.loads((tmp_path / "study" / "study.json").read_text())
    assert values["winner"]["scenario"] in study.advice
    assert load_study(tmp_path / "study").winner == study.winner
    if study.winner.scenario == "gradual":
        assert study.winner.freeze["preset"] == "gradual"
        assert study.winner.freeze["epochs"] > 0
    else:
        assert (study.winner.freeze, study.winner.one_rate) == ("none", True)
    del values["winner"]
    (tmp_path / "study" / "study.json").write_text(json.dumps(values))
    assert load_study(tmp_path / "study").winner is None


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_a_budget_without_time_is_refused(minutes, run_config, tmp_path):
    with pytest.raises(ValueError, match="time_budget must be above 0 minutes"):
        run_study(run_config, tmp_path / "study", PAIR, time_budget=minutes)
    assert not (tmp_path / "study").exists()
