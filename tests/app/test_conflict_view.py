"""The app shows the pictures of a run that compares the gradients of its tasks."""

from base64 import b64decode

import pytest

pytest.importorskip("gradio")

from hf_multitask import TaskConfig
from hf_multitask.app.conflict_view import show_conflict
from hf_multitask.app.job_process import FINISHED
from hf_multitask.app.jobs import JobStatus
from hf_multitask.app.run_progress import RunProgress
from hf_multitask.app.run_view import show_run

pytestmark = pytest.mark.app

HISTORY = [
    {
        "step": step,
        "epoch": step / 10,
        "conflict_a_b_encoder.0": -0.5,
        "conflict_a_b_all": -0.4,
        "gradient_share_a_all": 0.5,
    }
    for step in (10, 20)
]


def test_a_picture_for_each_pair_with_the_sentence():
    html = show_conflict(["a", "b", "c"], HISTORY)
    assert html.startswith("<p>The tasks a and b pulled apart in encoder.0")
    assert html.count("<img") == 1
    svg = b64decode(html.split("base64,")[1].split('"')[0]).decode()
    assert "a and b: cosine of the gradients" in svg


def test_a_run_shows_it():
    tasks = [TaskConfig(name, "sequence_classification", labels=["x", "y"]) for name in ("a", "b")]
    job = JobStatus("run-1", FINISHED, "Finished.", RunProgress(20, 20, 2.0, tasks, HISTORY))
    assert "pulled apart" in show_run(["run-1"], job, None).conflict
    assert show_run([], None, None).conflict == ""


def test_nothing_without_comparisons():
    assert show_conflict(["a", "b"], [{"step": 1, "loss": 1.0}]) == ""
    assert show_conflict([], []) == ""
