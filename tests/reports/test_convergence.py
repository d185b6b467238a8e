"""What was frozen when and why, in the report of a run."""

from hf_multitask.reports.convergence import convergence_parts

HISTORY = [
    {"freeze_stage": "c", "freeze_reason": "the run starts", "frozen_groups": [], "unfrozen_groups": [], "step": 0},
    {"layer_distances": {"encoder.0": 1.0, "encoder.1": 1.5}, "frozen_layers_are_cached": True, "step": 2},
    {"layer_distances": {"encoder.0": 1.1, "encoder.1": 2.0}, "frozen_layers_are_cached": True, "step": 4},
    {
        "freeze_stage": "c",
        "freeze_reason": "encoder.0 has stopped learning",
        "frozen_groups": ["embeddings", "encoder.0"],
        "unfrozen_groups": [],
        "step": 4,
        "epoch": 2.0,
    },
    {"layer_distances": {"encoder.1": 2.5}, "frozen_layers_are_cached": True, "step": 6},
]


def test_each_change_has_its_step_and_its_reason_beside_the_distances():
    table, figure = convergence_parts(HISTORY)
    assert table.rows == [
        ["0", "0.00", "nothing", "nothing", "the run starts"],
        ["4", "2.00", "embeddings, encoder.0", "nothing", "encoder.0 has stopped learning"],
    ]
    assert figure.svg.count("encoder.1")
    assert "where the layer is frozen" in figure.caption


def test_a_run_that_was_not_measured_has_no_such_part():
    assert convergence_parts([entry for entry in HISTORY if "layer_distances" not in entry]) == []
