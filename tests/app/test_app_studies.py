"""Studies in separate processes: one job at a time, stopped, continued, and their winner trained."""

import json
import time
from dataclasses import asdict, replace

import psutil
import pytest

from hf_multitask import RunConfig, load_study
from hf_multitask.app.choices import default_choices
from hf_multitask.app.durations import in_words
from hf_multitask.app.study_jobs import StudyProgress, StudySettings, needs_folds, read_study_progress, study_config
from hf_multitask.app.study_tables import PRICE_HEADER, price_list, price_points
from hf_multitask.app.study_worker import StudyWriter
from hf_multitask.study.race_results import load_race
from hf_multitask.study.race_rungs import Length
from hf_multitask.study.study_results import Winner

PAIR = ("encoder-frozen", "nothing-frozen")
TRIO = (*PAIR, "top:1")
# A quarter of them are just enough steps for a rung.
EPOCHS_OF_TWO_RUNGS = 20


@pytest.fixture
def choices(services, app_config):
    return default_choices(services.base_config(str(app_config)))


@pytest.fixture
def start(services, app_config, choices):
    """Return a function that starts a study, and end running processes afterwards."""

    def start(settings, **changes):
        return services.start_study(str(app_config), replace(choices, **changes), settings)

    yield start
    for path in services.workspace.app_dir.glob("_studies/*/process.json"):
        pid = json.loads(path.read_text())["pid"]
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()


def wait(studies, until, seconds=120):
    for _ in range(10 * seconds):
        status = studies.status(studies.names()[0])
        if until(status):
            return status
        time.sleep(0.1)
    raise AssertionError(status)


@pytest.mark.slow
def test_a_study_is_stopped_and_continued_and_its_winner_trained(services, start, app_config, choices):
    studies = services.studies
    assert start(StudySettings(TRIO, minutes=10), epochs=8) == "app/study-1"
    with pytest.raises(ValueError, match=r"app/study-1 is training already\. Only one training runs at a time"):
        services.start(str(app_config), choices)
    # The button of runs does not stop a study.
    services.jobs.stop()
    running = wait(studies, lambda status: status.progress.number == 1 or not status.is_active)
    assert running.state == "running", running
    assert running.message.startswith("app/study-1 is training: 1 of 3 trainings finished")
    studies.stop()
    stopped = wait(studies, lambda status: not status.is_active)
    # The second was in progress.
    assert stopped.message.startswith("app/study-1 was stopped after 2 of 3 trainings. The results are those of the")
    assert not stopped.is_whole
    assert list(services.workspace.studies()) == ["app/study-1"]
    studies.resume("app/study-1")
    status = wait(studies, lambda status: not status.is_active)
    assert status.message == "app/study-1 has finished."
    assert status.is_whole
    study = load_study(services.workspace.studies()["app/study-1"])
    assert [scenario.name for scenario in study.scenarios] == list(TRIO)
    assert study.winner.scenario in TRIO

    config = studies.config_of_winner("app/study-1", study.winner)
    assert config.freeze == study.winner.freeze
    assert config.training["num_train_epochs"] == 8
    with pytest.raises(ValueError, match="starts from a model of nothing-frozen"):
        studies.config_of_winner("app/study-1", Winner("x", "none", False, "nothing-frozen"))
    one_rate = studies.config_of_winner("app/study-1", Winner("x", "none", True, None))
    assert one_rate.training["head_learning_rate"] == one_rate.training_arguments().learning_rate
    with pytest.raises(ValueError, match="does not exist any more"):
        studies.resume("app/../..")


@pytest.mark.slow
def test_a_race_whose_process_is_killed_is_continued_and_its_winner_trained(services, start, app_config, choices):
    studies, folder = services.studies, services.workspace.app_dir
    settings = StudySettings(TRIO, minutes=10, race=True)
    assert start(settings, epochs=EPOCHS_OF_TWO_RUNGS) == "app/study-1"
    running = wait(studies, lambda status: status.progress.number >= 1 or not status.is_active)
    assert running.message.startswith("app/study-1 is training: 1 of 3 trainings of rung 1 of at most 2 finished, ")
    assert 0 < running.progress.seconds_left <= 600
    psutil.Process(json.loads((folder / "_studies/study-1/process.json").read_text())["pid"]).kill()
    killed = wait(studies, lambda status: not status.is_active)
    assert not killed.is_whole
    assert not services.workspace.races()
    studies.resume("app/study-1")
    status = wait(studies, lambda status: status.progress.table is not None or not status.is_active)
    title, header, rows = status.progress.table
    assert (title, header[0]) == ("After 16 rows, 1/4 of the epochs and 1 seed", "scenario")
    assert {row[0] for row in rows} == set(TRIO)
    status = wait(studies, lambda status: not status.is_active)
    assert status.message == "app/study-1 has finished."
    assert status.is_whole
    # What the killed process has trained is named once.
    assert len(status.progress.runs) == len({name for name, _, _ in status.progress.runs}) >= len(TRIO)
    assert list(services.workspace.races()) == ["app/study-1"]
    race = load_race(services.workspace.races()["app/study-1"])
    assert [result.rung.length for result in race.rungs] == [Length(16, 4), Length(16)]
    assert race.winner in race.rungs[-1].scores
    assert (
        json.loads(json.dumps([asdict(price) for price in race.prices]))
        == json.loads((race.folder / "race.json").read_text())["prices"]
    )
    name = services.train_winner("app/study-1")
    config = RunConfig.from_file(services.workspace.root / name / "_app" / "config.yaml")
    services.jobs.stop()
    assert (config.freeze, config.training["num_train_epochs"]) == (race.config.freeze, EPOCHS_OF_TWO_RUNGS)


@pytest.mark.slow
def test_a_race_that_is_stopped_is_not_whole(services, start):
    start(StudySettings(TRIO, race=True), epochs=EPOCHS_OF_TWO_RUNGS)
    wait(services.studies, lambda status: status.progress.number == 1 or not status.is_active)
    services.studies.stop()
    status = wait(services.studies, lambda status: not status.is_active)
    assert "was stopped after 2 of 3 trainings of rung 1 of at most 2. The results are those" in status.message
    assert status.progress.seconds_left is None
    assert not status.is_whole


def test_a_study_needs_two_scenarios_and_offers_those_of_a_single_run(services, app_config, choices):
    with pytest.raises(ValueError, match="choose at least 2"):
        services.start_study(str(app_config), choices, StudySettings(PAIR[:1]))
    names = [scenario.name for scenario in services.scenarios(str(app_config), choices)]
    assert {*PAIR, "top:1", "top:2", "gradual"} <= set(names)
    assert not [name for name in names if "head-frozen" in name or name.endswith("-alone")]
    assert services.studies.names() == []


def test_data_without_test_rows_is_compared_on_folds(base):
    assert not needs_folds(base)
    assert study_config(base) is base
    without = replace(base, data=replace(base.data, test=None))
    assert needs_folds(without)
    data = study_config(without).data
    assert (data.folds, data.validation, data.validation_split) == (3, None, None)
    assert data.train == base.data.train


def test_the_progress_of_a_study_names_what_is_finished(tmp_path, save_study):
    study = load_study(save_study(tmp_path / "study"))
    (run,) = study.scenarios[0].runs
    writer = StudyWriter(tmp_path, minutes=None)
    writer.start -= 2 * run.seconds
    writer("nothing frozen, 100 rows, seed 0", run, 1, 4)
    progress = read_study_progress(tmp_path)
    assert (progress.number, progress.total) == (1, 4)
    assert progress.runs == [("nothing frozen, 100 rows, seed 0", 20.0, "intent_accuracy 0.9000, slots_f1 0.8000")]
    assert progress.seconds_left == pytest.approx(3 * 2 * run.seconds, rel=0.1)
    # The time of the study is a limit too.
    limited = StudyWriter(tmp_path, minutes=1)
    limited.start -= 2 * run.seconds
    limited("nothing frozen, 100 rows, seed 0", run, 1, 4)
    assert read_study_progress(tmp_path).seconds_left <= 60
    assert read_study_progress(tmp_path / "nowhere") == StudyProgress()


def test_the_price_list_starts_with_the_cheapest(tmp_path, save_study):
    study = load_study(save_study(tmp_path / "study"))
    study = replace(study, winner=Winner("nothing frozen", "none", False, None))
    rows = [dict(zip(PRICE_HEADER, row, strict=True)) for row in price_list(study)]
    assert [row["way to train"].splitlines()[0] for row in rows] == ["encoder frozen", "nothing frozen", "gradual"]
    assert [row["note"] for row in rows] == ["best for its time", "recommended", ""]
    assert [row["minutes"] for row in rows] == ["0.08", "0.33", "0.50"]
    assert rows[1]["mean score"] == "0.8500"
    assert price_points(study)[0] == (0.333, 0.85, "nothing frozen")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "a few seconds"),
        (38, "about 40 seconds"),
        (58, "about 60 seconds"),
        (61, "about 1 minute"),
        (1700, "about 28 minutes"),
        (7300, "about 2 hours"),
    ],
)
def test_durations_are_in_words(seconds, words):
    assert in_words(seconds) == words
