"""Curves of a run, which grow while they are shown, in a real browser."""

import json
import time

import pytest

from hf_multitask import TaskConfig
from tests.app.browser import TRAINING, choose, go_to, set_epochs

pytestmark = pytest.mark.app

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]


@pytest.fixture
def run(folder):
    """Return the file of a run's history, with its tasks and the losses of some steps."""
    path = folder / "app" / "run-1" / "_app" / "progress.jsonl"
    path.parent.mkdir(parents=True)
    (path.parent / "process.json").write_text(json.dumps({"pid": 0, "started": time.time()}))
    path.write_text(json.dumps({"tasks": [task.to_dict() for task in TASKS]}) + "\n")
    append(
        path, *({"intent_loss": 1 / step, "intent_rows": 8, "step": step, "epoch": step / 5} for step in range(1, 5))
    )
    return path


def append(path, *entries):
    with path.open("a") as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in entries))


def test_a_curve_that_comes_later_is_drawn_too(run, page, expect):
    go_to(page, "Train")
    losses = page.locator("#losses")
    legend = losses.locator(".role-legend")
    expect(legend).to_contain_text("intent, training")
    lines = losses.locator("path[aria-roledescription='line mark']")
    expect(lines).to_have_count(1)
    append(run, {"eval_intent_loss": 0.5, "eval_intent_accuracy": 0.5, "step": 5, "epoch": 1.0})
    page.wait_for_timeout(3000)
    append(run, {"eval_intent_loss": 0.4, "eval_intent_accuracy": 0.9, "step": 10, "epoch": 2.0})
    expect(page.locator("#scores .role-legend")).to_contain_text("intent, accuracy")
    expect(legend).to_contain_text("intent, validation")
    expect(lines).to_have_count(2)
    colors = lines.evaluate_all("lines => lines.map(line => line.getAttribute('stroke'))")
    assert len(set(colors)) == 2


def test_a_run_shows_which_layers_it_has_frozen_and_why(page, expect):
    go_to(page, "Train")
    choose(page, "schedule", "converged")
    expect(page.locator("#plan")).to_contain_text("may freeze", timeout=TRAINING)
    set_epochs(page, 20)
    page.locator("#start").click()
    expect(page.locator("#run-state")).to_contain_text("has finished", timeout=TRAINING)
    frozen = page.locator("#run-frozen-layers")
    expect(frozen.locator("tbody")).to_contain_text("the run starts")
    assert frozen.locator("img").evaluate("image => image.naturalWidth") > 500
