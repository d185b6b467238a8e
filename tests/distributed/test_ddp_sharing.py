"""Gradients of tasks and balanced losses on several processes: as on one process, and the same on all of them."""

from dataclasses import replace

import pytest

from tests.distributed.launching import difference_to_one_process, largest_difference, launch_scenarios, torchrun
from tests.distributed.run_schedule import Scenario

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

# Two processes draw 4 rows each for a comparison, and one process the same 8.
STAGES = {
    "stages": [{"train": "heads", "steps": 2}, {"train": ["encoder[-1:]", "heads"], "steps": 2}, {"train": "all"}]
}
PLAIN = Scenario("plain", STAGES, batch=4, epochs=3)
COMPARED = replace(PLAIN, name="compared", arguments={"conflict_steps": 1})
BALANCED = [
    Scenario(f"{name} {data}", STAGES, batch=4, epochs=3, data=data, arguments={"loss_balancing": method})
    for data in ("whole", "mixed")
    for name, method in {
        "uncertainty": {"method": "uncertainty", "learning_rate": 0.1},
        "dwa": {"method": "dwa", "steps": 2},
        "famo": {"method": "famo"},
        "random": {"method": "random"},
        "equal_norm": {"method": "equal_norm", "steps": 2},
    }.items()
]
# One process takes the rows of both, and of both batches of a step, at once.
AGGREGATED = [
    Scenario(
        f"{method} {data}",
        STAGES,
        batch=4,
        accumulation=2,
        rows=32,
        data=data,
        arguments={"loss_balancing": {"torchjd": method}},
    )
    for data in ("whole", "mixed")
    for method in ("UPGrad", "Random")
]


@pytest.fixture(scope="module")
def on_two(encoder, tmp_path_factory):
    return launch_scenarios(
        torchrun(2), [PLAIN, COMPARED, *BALANCED, *AGGREGATED], encoder, tmp_path_factory.mktemp("two")
    )


def test_a_training_does_not_notice(on_two):
    assert largest_difference(on_two.weights("plain"), on_two.weights("compared")) == 0
    assert all(step["equal"] for rank in on_two.report("compared")["ranks"] for step in rank["steps"])


def test_the_gradients_are_those_of_all_processes(on_two, encoder, tmp_path):
    assert difference_to_one_process(on_two, COMPARED, encoder, tmp_path) < 1e-5
    first, second = (rank["sharing"] for rank in on_two.report("compared")["ranks"])
    assert first == second
    (alone,) = (rank["sharing"] for rank in on_two.__class__(0, "", tmp_path / "alone").report("compared")["ranks"])
    assert len(first) == len(alone) > 4
    for entry, expected in zip(first, alone, strict=True):
        assert entry == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("scenario", BALANCED, ids=lambda scenario: scenario.name)
def test_balanced_losses_are_those_of_one_process(on_two, scenario, encoder, tmp_path):
    assert difference_to_one_process(on_two, scenario, encoder, tmp_path) < 1e-5
    first, second = (rank["sharing"] for rank in on_two.report(scenario.name)["ranks"])
    assert first == second
    assert len({entry["loss_weight_intent"] for entry in first}) > 1


@pytest.mark.parametrize("scenario", AGGREGATED, ids=lambda scenario: scenario.name)
def test_aggregated_gradients_are_those_of_one_process(on_two, scenario, encoder, tmp_path):
    assert difference_to_one_process(on_two, scenario, encoder, tmp_path) < 1e-5
    assert all(step["equal"] for rank in on_two.report(scenario.name)["ranks"] for step in rank["steps"])
