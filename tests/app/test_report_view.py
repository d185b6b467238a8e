"""The app shows parts of a run's report: the conflict between its tasks, and the layers that have stopped learning."""

from base64 import b64decode

import pytest

pytest.importorskip("gradio")

from hf_multitask import TaskConfig
from hf_multitask.app.job_process import FINISHED
from hf_multitask.app.jobs import JobStatus
from hf_multitask.app.report_view import show_conflict, show_frozen_layers
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
DISTANCES = [
    {"freeze_stage": "c", "freeze_reason": "the run starts", "frozen_groups": [], "unfrozen_groups": [], "step": 0},
    {"layer_distances": {"encoder.0": 1.0, "encoder.1": 1.5}, "step": 2},
    {"layer_distances": {"encoder.0": 1.1, "encoder.1": 2.0}, "step": 4},
    {
        "freeze_stage": "c",
        "freeze_reason": "encoder.0 has stopped learning",
        "frozen_groups": ["encoder.0"],
        "unfrozen_groups": [],
        "step": 4,
        "epoch": 2.0,
    },
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


def test_what_was_frozen_is_a_table_beside_the_distances():
    html = show_frozen_layers(DISTANCES)
    assert "encoder.0 has stopped learning" in html
    svg = b64decode(html.split("base64,")[1].split('"')[0]).decode()
    assert "distance from the start of the stage" in svg
    job = JobStatus("run-1", FINISHED, "Finished.", RunProgress(4, 20, 2.0, [], DISTANCES))
    assert show_run(["run-1"], job, None).frozen_layers == html


def test_nothing_if_no_distances_were_measured():
    assert show_frozen_layers([entry for entry in DISTANCES if "layer_distances" not in entry]) == ""
    assert show_run([], None, None).frozen_layers == ""
