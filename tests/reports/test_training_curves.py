"""Training curves show the recorded values."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hf_multitask import TaskConfig
from hf_multitask.reports.figure_style import line_style, to_png, to_svg
from hf_multitask.reports.training_curves import MAX_POINTS, draw_curves, main_metric

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
STAGES = [
    {"name": "heads", "start_step": 0, "steps": 20},
    {"name": "all of it", "start_step": 20, "steps": 20},
]


def log(step, **values):
    rates = {"learning_rate_head.intent": 1e-3, "learning_rate_head.slots": 1e-3}
    if step > 20:
        rates |= {f"learning_rate_encoder.{i}": 1e-5 / step for i in range(6)}
    losses = {"loss": 3 / step, "intent_loss": 1 / step, "slots_loss": 2 / step}
    return {"step": step, "epoch": step / 10, **losses, **rates, **values}


def evaluation(step):
    scores = {"eval_intent_accuracy": step / 50, "eval_slots_f1": step / 60, "eval_slots_loss": 4 / step}
    return {"step": step, "epoch": step / 10, **scores}


HISTORY = [
    *(entry for step in range(5, 41, 5) for entry in ([log(step)] if step % 10 else [log(step), evaluation(step)])),
    {"step": 40, "epoch": 4.0, "train_runtime": 1.0, "train_loss": 0.5},
    {"step": 40, "epoch": 4.0, "validation_slots_f1": 0.9},
]


def lines(axes):
    """Return the curves of a panel by name, without the lines at the starts of stages."""
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def panel(figure, title):
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(title)]
    return found


def test_the_panels_show_the_recorded_values():
    figure = draw_curves(HISTORY, STAGES, TASKS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "intent: loss",
        "intent: accuracy",
        "slots: loss",
        "slots: f1",
        "learning rate by layer group",
    ]
    losses = lines(panel(figure, "slots: loss"))
    assert losses["train"].get_xydata().tolist() == [[step / 10, 2 / step] for step in range(5, 41, 5)]
    assert losses["validation"].get_xydata().tolist() == [[step / 10, 4 / step] for step in (10, 20, 30, 40)]
    # Validation has no loss of this task.
    assert list(lines(panel(figure, "intent: loss"))) == ["train"]
    scores = lines(panel(figure, "intent: accuracy"))
    assert scores["validation"].get_ydata().tolist() == [0.2, 0.4, 0.6, 0.8]


def test_groups_with_one_rate_share_a_line_that_ends_when_they_are_frozen():
    rates = lines(panel(draw_curves(HISTORY, STAGES, TASKS), "learning rate"))
    assert list(rates) == ["head.intent, head.slots", "encoder.0-5"]
    values = rates["encoder.0-5"].get_ydata()
    assert [math.isnan(value) for value in values] == [True] * 4 + [False] * 4
    assert panel(draw_curves(HISTORY, STAGES, TASKS), "learning rate").get_yscale() == "log"


def test_stages_are_labeled_bands():
    axes = panel(draw_curves(HISTORY, STAGES, TASKS), "learning rate")
    labels = {text.get_text(): text.xy[0] for text in axes.texts}
    assert labels == {"1 heads": 1.0, "2 all of it": 3.0}
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0, 2))


def test_a_narrow_stage_has_only_its_number():
    stages = [{"name": "s" * 30, "start_step": 2 * i, "steps": 2} for i in range(20)]
    axes = panel(draw_curves(HISTORY, stages, TASKS), "learning rate")
    assert [text.get_text() for text in axes.texts] == [str(i + 1) for i in range(20)]


def test_the_axis_of_a_stream_is_steps():
    history = [{**entry, "epoch": entry["step"] / 40} for entry in HISTORY]
    axes = panel(draw_curves(history, STAGES, TASKS), "learning rate")
    assert axes.get_xlabel() == "step"
    assert [text.xy[0] for text in axes.texts] == [10, 30]


@pytest.mark.parametrize("history", [[], [evaluation(10)], [{"validation_loss": 1.0, "step": 0}]])
def test_missing_values_are_omitted(history):
    figure = draw_curves(history, [], TASKS)
    assert "not recorded" in [text.get_text() for text in panel(figure, "intent: loss").texts]
    assert to_svg(figure)


def test_a_loss_of_nan_is_a_gap():
    history = [log(5), log(10, intent_loss=math.nan), log(15, intent_loss=math.inf), log(20)]
    line = lines(panel(draw_curves(history, [], TASKS), "intent: loss"))["train"]
    assert np.isfinite(line.get_ydata()).tolist() == [True, False, False, True]


def test_a_long_run_is_reduced_to_means():
    history = [log(step) for step in range(1, 10 * MAX_POINTS + 1)]
    figure = draw_curves(history, [], TASKS)
    line = lines(panel(figure, "intent: loss"))["train"]
    assert len(line.get_ydata()) == MAX_POINTS
    assert line.get_ydata()[1] == pytest.approx(np.mean([1 / step for step in range(11, 21)]))
    assert len(to_svg(figure)) < 300_000


def test_an_svg_is_reproducible_and_well_formed():
    first, second = (to_svg(draw_curves(HISTORY, STAGES, TASKS)) for _ in range(2))
    assert first == second
    texts = [element.text for element in ElementTree.fromstring(first).iter("{http://www.w3.org/2000/svg}text")]
    assert "intent: accuracy" in texts
    assert "1 heads" in texts
    assert to_png(draw_curves(HISTORY, STAGES, TASKS)).startswith(b"\x89PNG")


def test_lines_differ_without_color():
    styles = [line_style(i) for i in range(35)]
    assert len({tuple(map(str, style.values())) for style in styles}) == 35
    # Neighbours differ in dashes and markers.
    assert all(a["linestyle"] != b["linestyle"] for a, b in itertools.pairwise(styles))
    assert all(a["marker"] != b["marker"] for a, b in itertools.pairwise(styles))


def test_main_metrics():
    size = TaskConfig("size", "sequence_classification", problem_type="regression")
    assert [main_metric(task) for task in [*TASKS, size]] == ["accuracy", "f1", "mae"]
