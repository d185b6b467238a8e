"""Results of each stage, from the changes and the history of a run."""

import pytest
import torch
from torch import nn
from transformers import TrainerState

from hf_multitask.freezing import FreezeSchedule, FreezeStage
from hf_multitask.freezing.replay import Transition
from hf_multitask.freezing.stage_results import read_stage_results, stage_results, write_stage_results
from hf_multitask.models.layer_groups import LayerGroup, LayerGroups

GROUPS = LayerGroups(
    LayerGroup(name, {"weight": nn.Parameter(torch.zeros(size))}) for name, size in (("encoder.0", 6), ("head.a", 2))
)
SCHEDULE = FreezeSchedule([FreezeStage("heads", train="heads", steps=2), FreezeStage("all")])
CHANGES = [
    Transition(0, 0, "the run starts", ("head.a",)),
    Transition(2, 1, "at its bound", ("encoder.0", "head.a"), best_step=1),
    Transition(3, 1, "frozen again", ("head.a",), starts_stage=False),
]


@pytest.fixture
def state():
    found = TrainerState(global_step=4)
    for step, (loss, f1) in enumerate([(1.0, 0.1), (0.8, 0.5), (0.9, 0.4), (0.6, 0.7), (0.7, 0.6)]):
        entry = {"eval_loss": loss, "eval_f1": f1, "eval_runtime": 9.0, "step": step}
        found.log_history += [{"loss": 2 * loss, "step": step}, entry] if step else [entry]
    return found


def test_each_stage_has_the_evaluations_up_to_its_end(state):
    heads, everything = stage_results(SCHEDULE, GROUPS, CHANGES, state, 3, {"heads": {"seconds": 1.5}})
    assert heads == {
        "name": "heads",
        "reason": "the run starts",
        "start_step": 0,
        "steps": 2,
        "epochs": 0.6667,
        "seconds": 1.5,
        "trained_groups": ["head.a"],
        "trainable_parameters": 2,
        "trainable_share": 0.25,
        "train_losses": {"loss": pytest.approx(1.7)},
        "best": {"loss": 0.8, "f1": 0.5},
        "last": {"loss": 0.9, "f1": 0.4},
        "restored_step": 1,
        "changes": [],
    }
    assert (everything["start_step"], everything["steps"], everything["epochs"]) == (2, 2, 0.6667)
    assert everything["best"] == {"loss": 0.6, "f1": 0.7}
    assert everything["last"] == {"loss": 0.7, "f1": 0.6}
    assert everything["restored_step"] is None
    assert everything["changes"] == [{"step": 3, "reason": "frozen again", "trained_groups": ["head.a"]}]


def test_a_stage_without_an_evaluation_has_no_metrics(state):
    state.log_history.clear()
    heads, _ = stage_results(SCHEDULE, GROUPS, CHANGES, state, 3, {})
    assert (heads["best"], heads["last"]) == ({}, {})


def test_what_is_written_is_read(state, tmp_path):
    assert read_stage_results(tmp_path) == []
    write_stage_results(tmp_path, SCHEDULE, GROUPS, CHANGES, state, 3, {})
    assert read_stage_results(tmp_path) == stage_results(SCHEDULE, GROUPS, CHANGES, state, 3, {})
