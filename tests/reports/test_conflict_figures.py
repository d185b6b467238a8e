"""The picture of two tasks shows the cosines that were logged, and the report has it."""

import math

import numpy as np
import pytest

from hf_multitask import TaskConfig
from hf_multitask.reports.conflict_figures import MAX_COLUMNS, draw_conflict
from hf_multitask.reports.page import Paragraph, SvgFigure, Table
from hf_multitask.reports.training_report import TrainingRecord, conflict_parts, report_sections
from hf_multitask.training.conflict_log import PairConflict

TASKS = [
    TaskConfig(name, "sequence_classification", labels=["x", "y"], problem_type="single_label_classification")
    for name in ("a", "b", "c")
]


def entry(step, lower, upper):
    cosines = {"conflict_a_b_encoder.0": lower, "conflict_a_b_encoder.1": upper, "conflict_a_b_all": lower}
    shares = {"gradient_share_a_all": 0.25, "gradient_share_b_all": 0.75}
    return {"step": step, "epoch": step / 10, **{k: v for k, v in cosines.items() if v is not None}, **shares}


HISTORY = [{"step": 5, "epoch": 0.5, "loss": 1.0}, entry(10, 0.5, None), entry(20, -0.7, 0.3)]


def test_the_figure_shows_the_cosines():
    pair = PairConflict(("a", "b"), [10, 20], {"encoder.0": [0.5, -0.7], "encoder.1": [None, 0.3]})
    axes, _ = draw_conflict(pair).axes
    (mesh,) = axes.collections
    assert mesh.get_array().filled(math.nan).tolist()[0] == [0.5, -0.7]
    assert mesh.get_array().mask.tolist() == [[False, False], [True, False]]
    assert mesh.get_clim() == (-1, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["encoder.0", "encoder.1"]
    assert axes.get_xlim() == (0, 20)
    assert axes.get_title(loc="left") == "a and b: cosine of the gradients"
    # Red is below 0.
    colors = mesh.to_rgba(np.array([-0.9, 0.9]))
    assert colors[0, 0] > colors[0, 2]
    assert colors[1, 2] > colors[1, 0]


def test_a_long_run_is_thinned_out():
    steps = list(range(1, 1001))
    values = [1.0 if step % 2 else 0.0 for step in steps]
    axes, _ = draw_conflict(PairConflict(("a", "b"), steps, {"all": values})).axes
    array = axes.collections[0].get_array()
    assert array.shape[1] <= MAX_COLUMNS
    assert array.mean() == pytest.approx(0.5, abs=0.1)
    assert axes.get_xlim() == (0, 1000)


def test_the_parts_of_a_report():
    sentence, cosines, shares, figure = conflict_parts(["a", "b", "c"], HISTORY)
    assert isinstance(sentence, Paragraph)
    assert sentence.text.startswith("The tasks did not pull apart: the lowest cosine")
    assert isinstance(cosines, Table)
    assert cosines.rows == [["a and b", "-0.10", "-0.10", "encoder.0"]]
    assert shares.rows == [["a", "25%"], ["b", "75%"]]
    assert isinstance(figure, SvgFigure)
    assert conflict_parts(["a", "b"], HISTORY[:1]) == []


def test_the_report_has_them():
    titles = [
        [section.title for section in report_sections(TrainingRecord({}, TASKS, history, [], {}))]
        for history in (HISTORY, HISTORY[:1])
    ]
    assert "Sharing between tasks" in titles[0]
    assert "Sharing between tasks" not in titles[1]
