"""A search: trials, resuming, sharing, pruning, the winner."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
import pytest
import yaml
from filelock import FileLock

from hf_multitask import RunConfig
from hf_multitask.cli import main
from hf_multitask.runs import run_training
from hf_multitask.tuning import run_tuning
from hf_multitask.tuning.training import TrialTraining
from tests.documents.blocks import ROOT
from tests.tiny import save_tiny_run
from tests.tuning.tune_program import SPACE

TRAINING = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "disable_tqdm": True}


@pytest.fixture
def config(tmp_path):
    return save_tiny_run(tmp_path, {**TRAINING, "eval_strategy": "epoch", "save_strategy": "epoch"}, tmp_path / "out")


def start(config, folder, trials):
    program = [sys.executable, "-m", "tests.tuning.tune_program", str(config), str(folder), str(trials)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def journal_trials(folder):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="tuning", storage=storage).trials


def numbers(folder):
    return [trial["number"] for trial in json.loads((folder / "trials.json").read_text())["trials"]]


def test_the_winner_trains_to_its_score_and_never_below_the_config(config, tmp_path):
    folder = tmp_path / "search"
    result = run_tuning(RunConfig.from_file(config), folder, trials=4, space=SPACE, seeds=2)
    assert len(result.trials) == 4
    assert result.base_trial.number == 0
    assert result.best_trial.value >= result.base_trial.value
    best = yaml.safe_load((folder / "best.yaml").read_text())
    again = run_training(RunConfig.from_file(folder / "best.yaml", {"output_dir": str(tmp_path / "again")}))
    assert again["validation"][result.metric] == result.best_trial.value
    assert best["training"]["learning_rate"] == result.best_trial.values["training.learning_rate"]
    seeds = result.scores["validation"]
    assert seeds[42][result.metric] == result.best_trial.value
    assert sorted(seeds) == sorted(result.scores["test"]) == [42, 43]
    mean, _ = result.summary("test")["intent_accuracy"]
    assert mean == pytest.approx(sum(result.scores["test"][seed]["intent_accuracy"] for seed in (42, 43)) / 2)
    assert {"tuning.md", "tuning.png", "tuning.svg", "trials.json"} <= {path.name for path in folder.iterdir()}
    # No model but the winner's.
    assert {path.parent.parent.name for path in folder.rglob("model.safetensors")} == {f"trial-{result.best}"}
    assert not list(folder.glob("training-*"))


def test_the_first_trial_is_the_run_itself(config, tmp_path):
    result = run_tuning(RunConfig.from_file(config), tmp_path / "search", trials=1, seeds=1)
    metrics = run_training(RunConfig.from_file(config))
    assert result.base_trial.value == metrics["validation"][result.metric]
    assert result.scores["test"][42] == metrics["test"]
    assert result.importance == {}


@pytest.mark.slow
def test_a_killed_search_continues(config, tmp_path):
    folder = tmp_path / "search"
    process = start(config, folder, 5)
    process.stdout.readline()
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed = len(journal_trials(folder))
    assert 2 <= killed < 5
    assert start(config, folder, 5).wait() == 0
    assert len(numbers(folder)) == len(set(numbers(folder))) == 5
    states = [trial.state.name for trial in journal_trials(folder)]
    assert states.count("RUNNING") == states.count("WAITING") == 0
    assert len(states) - states.count("FAIL") == 5


@pytest.mark.slow
def test_two_processes_share_a_search(config, tmp_path):
    folder = tmp_path / "search"
    processes = [start(config, folder, 6) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    # The metrics of the winner are printed too.
    trained = sorted(int(line) for output in outputs for line in output if line.isdigit())
    assert trained == numbers(folder) == list(range(6))
    parameters = [tuple(trial.params.items()) for trial in journal_trials(folder)]
    assert len(set(parameters)) == 6


def test_a_search_that_another_process_is_beginning_is_joined(config, tmp_path):
    folder = tmp_path / "search"
    run = RunConfig.from_file(config)
    run_tuning(run, tmp_path / "earlier", trials=1, space=SPACE, seeds=1)
    folder.mkdir()
    partial = folder / "base.yaml.partial"
    partial.write_text((tmp_path / "earlier" / "base.yaml").read_text())
    with ThreadPoolExecutor() as pool, FileLock(folder / "study.lock"):
        joined = pool.submit(run_tuning, run, folder, trials=1, space=SPACE, seeds=1)
        time.sleep(2)
        assert not joined.done()
        partial.rename(folder / "base.yaml")
    assert len(joined.result().trials) == 1


def test_bad_trials_are_pruned(config, tmp_path):
    training = {**TRAINING, "num_train_epochs": 4, "learning_rate": 3e-2, "metric_for_best_model": "loss"}
    run = RunConfig.from_file(config, {f"training.{key}": value for key, value in training.items()})
    space = {"training.learning_rate": [3e-2, 1e-8, 2e-8, 3e-8, 4e-8, 5e-8, 6e-8, 7e-8]}
    result = run_tuning(run, tmp_path / "search", trials=10, space=space, seeds=1)
    assert not result.maximize
    pruned = [trial for trial in result.trials if trial.pruned]
    assert pruned
    assert all(trial.values["training.learning_rate"] < 1e-3 for trial in pruned)
    assert result.best_trial.values["training.learning_rate"] == 3e-2
    evaluations = [len(trial.intermediate_values) for trial in journal_trials(tmp_path / "search")]
    # The search hears of all evaluations but the last, after which there is nothing to save.
    assert evaluations[result.base_trial.number] == 3
    assert min(evaluations[trial.number] for trial in pruned) < 3


@pytest.fixture
def config_of_few_rows(tmp_path):
    """Return the config of a run that is evaluated in its last epochs only, as settings for few rows are chosen."""
    training = {"disable_tqdm": True, "metric_for_best_model": "loss", "greater_is_better": False}
    return RunConfig.from_file(save_tiny_run(tmp_path, training, tmp_path / "out"))


def test_bad_trials_end_early_in_runs_that_are_evaluated_at_their_end(config_of_few_rows, tmp_path):
    space = {"training.learning_rate": [1e-8, 2e-8, 3e-8, 4e-8]}
    result = run_tuning(config_of_few_rows, tmp_path / "search", trials=8, space=space, seeds=1)
    metrics = run_training(config_of_few_rows)
    # The additional evaluations do not change the training.
    assert result.base_trial.value == metrics["validation"]["loss"]
    assert result.scores["test"][42] == metrics["test"]
    reported = {trial.number: list(trial.intermediate_values) for trial in journal_trials(tmp_path / "search")}
    assert reported[result.base_trial.number] == [1, 2, 3, 4]
    assert [1] in [reported[trial.number] for trial in result.trials if trial.pruned]


def test_the_second_trial_has_the_settings_of_a_thorough_run(config_of_few_rows, tmp_path):
    space = {
        "training.word_dropout": [0.0, 0.1],
        "training.num_train_epochs": {"low": 2, "high": 3},
        "tasks.slots.head": ["linear", "lstm"],
        "tasks.slots.mix_layers": [False, True],
    }
    config = replace(config_of_few_rows, training={**config_of_few_rows.training, "num_train_epochs": 2})
    base, second = run_tuning(config, tmp_path / "search", trials=2, space=space, seeds=1).trials
    assert list(base.values.values()) == [0.0, 2, "linear", False]
    # What the config gives is not chosen.
    assert list(second.values.values()) == [0.1, 2, "lstm", True]


def test_a_trial_stops_when_the_time_is_up_but_the_config_itself_does_not(config, tmp_path, monkeypatch):
    trained = []
    whole = TrialTraining.train

    def train_after_the_end(training, claimed):
        trained.append(claimed.is_base)
        return whole(training, replace(claimed, end=time.monotonic()))

    monkeypatch.setattr(TrialTraining, "train", train_after_the_end)
    space = {"training.learning_rate": [1e-3, 2e-3]}
    result = run_tuning(RunConfig.from_file(config), tmp_path / "search", trials=3, space=space, seeds=1)
    assert trained[0]
    assert not all(trained)
    assert [trial.pruned for trial in result.trials] == [not is_base for is_base in trained]


def test_freeze_schedules_heads_and_rows_change_between_trials(config, tmp_path):
    space = {
        "freeze": ["none", "heads-then-all", ["embeddings"]],
        "data.label_subwords": ["first", "all"],
        "tasks.slots.mix_layers": [False, True],
        "training.ema_decay": [None, 0.5],
    }
    result = run_tuning(RunConfig.from_file(config), tmp_path / "search", trials=6, space=space, seeds=1)
    for key in ("freeze", "data.label_subwords"):
        assert len({str(trial.values[key]) for trial in result.trials}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": {"tasks.slots.head": ["linear", "lstmm"]}}, "Did you mean 'lstm'"),
        ({"space": {"freeze": ["none", "three-stages"]}}, "Did you mean 'three-stage'"),
        ({"space": {"training.num_train_epochs": [1, "many"]}}, "space: training.num_train_epochs"),
        ({"metric": "joint_acuracy"}, "Did you mean 'joint_accuracy'"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"minutes": 0}, "minutes must be above 0"),
    ],
)
def test_wrong_arguments_are_refused_before_training(config, tmp_path, options, message):
    folder = tmp_path / "search"
    with pytest.raises(ValueError, match=message):
        run_tuning(RunConfig.from_file(config), folder, **options)
    assert not (folder / "study.journal").exists()


def test_another_search_in_the_folder_is_refused(config, tmp_path):
    folder = tmp_path / "search"
    run = RunConfig.from_file(config)
    run_tuning(run, folder, trials=1, space=SPACE, seeds=1)
    with pytest.raises(ValueError, match="contains another search"):
        run_tuning(run, folder, trials=1, space={"freeze": ["none", "encoder"]}, seeds=1)
    files = sorted((tmp_path / "encoder").iterdir())
    with pytest.raises(FileExistsError, match="does not contain a search"):
        run_tuning(run, tmp_path / "encoder", trials=1, space=SPACE, seeds=1)
    assert sorted((tmp_path / "encoder").iterdir()) == files


def test_validation_rows_are_needed(config, tmp_path):
    run = RunConfig.from_file(config, {"data.validation": None})
    with pytest.raises(ValueError, match=r"data.validation is missing"):
        run_tuning(run, tmp_path / "search")


def test_the_command_prints_tables_of_80_columns(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    space = tmp_path / "space.yaml"
    space.write_text("training.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    folder = str(tmp_path / "search")
    command = ["tune", str(config), "--trials", "5", "--space", str(space), "--seeds", "1", "--output", folder]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "5/5 trial 4" in output
    # Trials with equal scores tell nothing about the importance of a key.
    known = json.loads((tmp_path / "search" / "trials.json").read_text())["importance"]
    assert ("importance" in output) == bool(known)
    assert "metric of the winner" in output
    table = [line for line in output.splitlines() if line.startswith(("┃", "│"))]
    assert max(map(len, table)) <= 80


def test_missing_packages_are_named(config, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_multitask.runtime.extras.missing_packages", lambda extra: ["optuna"])
    with pytest.raises(ImportError, match=r"pip install 'hf-multitask\[tune\]'"):
        run_tuning(RunConfig.from_file(config), tmp_path / "search")


@pytest.fixture
def config_with_folds(config):
    values = yaml.safe_load(config.read_text())
    values["data"] = {"train": values["data"]["train"], "test": values["data"]["test"], "folds": 2}
    config.write_text(yaml.safe_dump(values))
    return config


def test_with_folds_the_value_of_a_trial_is_the_mean_over_the_folds(config_with_folds, tmp_path):
    folder = tmp_path / "search"
    result = run_tuning(RunConfig.from_file(config_with_folds), folder, trials=3, space=SPACE, seeds=1)
    again = run_training(RunConfig.from_file(folder / "best.yaml", {"output_dir": str(tmp_path / "again")}))
    assert again["folds"][result.metric] == result.best_trial.value
    assert result.scores["folds"][42] == again["folds"]
    assert "| metric of the winner | folds | test |" in (folder / "tuning.md").read_text()
    assert [sorted(trial.intermediate_values) for trial in journal_trials(folder)] == [[1]] * 3


def test_with_folds_a_schedule_that_watches_validation_is_refused(config_with_folds, tmp_path):
    run = RunConfig.from_file(config_with_folds)
    with pytest.raises(ValueError, match=r"data\.folds: .*watches a metric"):
        run_tuning(run, tmp_path / "search", space={"freeze": ["none", "progressive"]})
