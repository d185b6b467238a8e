"""Training jobs in separate processes: only one at a time, found again, stopped, failed."""

import json
import resource
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from transformers import pipeline

from hf_multitask import MultiTaskModel
from hf_multitask.app.choices import default_choices
from hf_multitask.app.jobs import Jobs
from hf_multitask.app.run_progress import loss_curves, read_progress, score_curves


def wait(jobs, until, seconds=120):
    for _ in range(10 * seconds):
        status = jobs.latest()
        if until(status):
            return status
        time.sleep(0.1)
    raise AssertionError(status)


@pytest.fixture
def start(services, app_config):
    """Return a function that starts a run, and end running processes afterwards."""

    def start(**changes):
        config = services.run_config(
            str(app_config), replace(default_choices(services.base_config(str(app_config))), **changes)
        )
        return services.jobs.start(config)

    yield start
    for path in services.workspace.app_dir.glob("*/_app/process.json"):
        pid = json.loads(path.read_text())["pid"]
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()


@pytest.mark.slow
def test_of_several_runs_started_together_one_trains_to_its_end(services, start):
    jobs = services.jobs
    assert jobs.latest() is None
    outcomes = []

    def press():
        try:
            outcomes.append(start(schedule="heads-then-all", epochs=30))
        except ValueError as error:
            outcomes.append(str(error))

    tabs = [threading.Thread(target=press) for _ in range(4)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert outcomes.count("app/run-1") == 1
    assert sum("app/run-1 is training already. Only one training runs at a time" in text for text in outcomes) == 3

    # A page that is opened later finds the run and its progress.
    running = wait(Jobs(services.workspace), lambda status: status.progress.max_steps)
    assert running.state == "running"
    assert running.message.startswith("app/run-1 is training: step ")
    assert "of 120, epoch" in running.message
    status = wait(Jobs(services.workspace), lambda status: not status.is_active)
    assert status.state == "finished", status
    assert status.message == "app/run-1 has finished. Open the Try tab to use its model."
    assert status.progress.step == status.progress.max_steps == 120
    assert status.progress.stage == "all"
    assert status.metrics.keys() == {"validation", "test"}
    tasks, history = status.progress.tasks, status.progress.history
    assert {point.curve for point in loss_curves(history, tasks)} == {
        f"{task}, {split}" for task in ("intent", "slots") for split in ("training", "validation")
    }
    scores = score_curves(history, tasks)
    assert {point.curve for point in scores} == {"intent, accuracy", "slots, f1"}
    assert [point.epoch for point in scores if point.curve == "slots, f1"] == [float(i) for i in range(1, 31)]
    assert list(services.workspace.models()) == ["app/run-1"]
    assert MultiTaskModel.from_pretrained(services.workspace.root / "app" / "run-1")


@pytest.mark.slow
def test_a_stopped_run_keeps_a_checkpoint_to_resume_from(services, start):
    start(epochs=5000)
    jobs = services.jobs
    wait(jobs, lambda status: status.progress.step > 20)
    jobs.stop()
    status = wait(jobs, lambda status: not status.is_active)
    assert status.state == "stopped", status
    step = status.progress.step
    folder = services.workspace.root / "app" / "run-1"
    assert (folder / f"checkpoint-{step}").is_dir()
    assert f"app/run-1 was stopped at step {step}. Saved: app/run-1/checkpoint-{step}" in status.message
    assert status.can_resume


@pytest.mark.slow
def test_a_renamed_run_resumes_from_its_checkpoint_to_its_end(services, start):
    jobs = services.jobs
    start(epochs=40)
    wait(jobs, lambda status: status.progress.step > 8)
    with pytest.raises(ValueError, match=r"^app/run-1 is training\. Stop it first\."):
        jobs.rename("app/run-1", "first")
    with pytest.raises(ValueError, match="Stop it first"):
        jobs.delete("app/run-1")
    jobs.stop()
    stopped = wait(jobs, lambda status: not status.is_active).progress.step
    assert stopped < 160
    assert jobs.rename("app/run-1", "../My first/run!") == "app/My-first-run"
    assert jobs.names() == ["app/My-first-run"]
    folder = services.workspace.root / "app" / "My-first-run"
    state = json.loads((folder / f"checkpoint-{stopped}" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).parent == folder
    jobs.resume("app/My-first-run")
    status = wait(jobs, lambda status: not status.is_active)
    assert status.state == "finished", status
    assert not (services.workspace.root / "app" / "run-1").exists()
    # The steps before and after are in one history.
    steps = [entry["step"] for entry in status.progress.history if "eval_loss" in entry]
    assert steps == sorted(set(steps))
    assert steps[0] <= stopped < steps[-1] == 160
    with pytest.raises(ValueError, match="can't be resumed: it has finished"):
        jobs.resume("app/My-first-run")


@pytest.mark.slow
def test_a_finished_run_has_its_mistakes_and_a_download_that_loads(services, start, tmp_path):
    jobs = services.jobs
    start(epochs=1)
    status = wait(jobs, lambda status: not status.is_active)
    assert status.state == "finished", status
    by_task = {task["task"]: task for task in status.mistakes}
    assert by_task.keys() == {"intent", "slots"}
    accuracy = status.metrics["validation"]["intent_accuracy"]
    assert by_task["intent"]["wrong"] == round((1 - accuracy) * by_task["intent"]["rows"])
    scores = [mistake["score"] for mistake in by_task["intent"]["mistakes"]]
    assert scores == sorted(scores, reverse=True)
    with zipfile.ZipFile(services.pack_run("app/run-1")) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    assert {name.partition("/")[0] for name in names} == {"run-1"}
    # Texts of the data stay here.
    assert not {"run-1/report.html", "run-1/mistakes.json"} & set(names)
    assert not any("checkpoint" in name or "optimizer" in name for name in names)
    answer = pipeline("multi-task", model=str(tmp_path / "unpacked" / "run-1"))("play some music")
    assert answer.keys() == {"intent", "slots"}

    jobs.delete("app/run-1")
    assert not (services.workspace.root / "app" / "run-1").exists()
    assert jobs.names() == []
    with pytest.raises(ValueError, match="run 'app/run-1' does not exist any more"):
        jobs.delete("app/run-1")


@pytest.mark.parametrize(("name", "message"), [("///", "expected letters or digits"), ("data", "'data' is taken")])
def test_names_that_a_run_cannot_have(name, message, services):
    folder = services.workspace.app_dir / "run-1" / "_app"
    folder.mkdir(parents=True)
    (folder / "process.json").write_text(json.dumps({"pid": 0, "started": 0.0}))
    with pytest.raises(ValueError, match=message):
        services.jobs.rename("app/run-1", name)
    with pytest.raises(ValueError, match="does not exist any more"):
        services.jobs.rename("app/../../x", "y")


@pytest.mark.slow
def test_a_failure_is_reported_and_the_next_run_starts(services, start, app_config):
    config = services.run_config(str(app_config), default_choices(services.base_config(str(app_config))))
    config.training["metric_for_best_model"] = "no_metric"
    services.jobs.start(config)
    status = wait(services.jobs, lambda status: not status.is_active)
    assert status.state == "failed"
    assert status.message.startswith("app/run-1 failed: ")
    assert "no_metric" in status.message
    assert start() == "app/run-2"
    # A killed process is not taken for a running one, even if another process gets its id.
    process = psutil.Process(json.loads((services.workspace.app_dir / "run-2/_app/process.json").read_text())["pid"])
    process.kill()
    status = wait(services.jobs, lambda status: not status.is_active)
    assert status.state == "failed"
    assert "its process ended without a result" in status.message
    assert "It has no checkpoint, so it can't be resumed" in status.message


@pytest.mark.slow
def test_a_full_disk_is_reported_and_nothing_else_is_lost(services, start):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the progress, not for weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    status = wait(services.jobs, lambda status: not status.is_active)
    assert status.state == "failed"
    assert "File too large" in status.message
    assert status.progress.history
    assert services.data_names()


def test_a_deleted_folder_is_not_a_run_any_more(services):
    folder = services.workspace.app_dir / "run-1" / "_app"
    folder.mkdir(parents=True)
    (folder / "process.json").write_text(json.dumps({"pid": psutil.Process().pid, "started": 0.0}))
    status = services.jobs.latest()
    # This process has the same id but another start time.
    assert status.state == "failed"
    shutil.rmtree(folder.parent)
    assert services.jobs.latest() is None
    services.jobs.stop()


def test_an_incomplete_line_is_left_for_the_next_read(tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"tasks": []}\n{"loss": 1.0, "step": 1}\n{"loss": 0.')
    assert read_progress(tmp_path).history == [{"loss": 1.0, "step": 1}]
    assert read_progress(tmp_path / "nowhere").history == []
