"""Batches with a maximum of tokens on several processes: equal replicas, equal to one process, resume."""

from dataclasses import replace

import pytest

from tests.distributed.launching import difference_to_one_process, largest_difference, launch_scenarios, torchrun
from tests.distributed.run_schedule import Scenario
from tests.distributed.test_ddp import EACH_EPOCH, STAGES, by_name, check_ranks, check_steps

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SAVING = {**EACH_EPOCH, "save_strategy": "steps", "save_steps": 1}
# One process would take 7 batches, two take 4 each; 11 and 6 each of the mix, 9 and 5 each of the windows.
EXACT = [
    Scenario("tokens", STAGES, rows=25, arguments={"max_tokens_per_batch": 36, **SAVING}),
    Scenario("accumulated", STAGES, accumulation=2, rows=25, arguments={"max_tokens_per_batch": 36, **SAVING}),
    Scenario("mixed", STAGES, data="mixed", accumulation=2, arguments={"max_tokens_per_batch": 40}),
    Scenario("windows", STAGES, data="windows", arguments={"max_tokens_per_batch": 32}),
]
RESUMED = [
    replace(EXACT[0], name="tokens resumed", resume=["tokens", 6]),
    replace(EXACT[1], name="accumulated resumed", resume=["accumulated", 5]),
]


@pytest.fixture(scope="module")
def on_two(encoder, tmp_path_factory):
    return launch_scenarios(torchrun(2), [*EXACT, *RESUMED], encoder, tmp_path_factory.mktemp("two"))


@by_name(EXACT)
def test_two_processes_train_as_one(on_two, scenario, encoder, tmp_path):
    report = on_two.report(scenario.name)
    check_ranks(report, scenario, 2)
    check_steps(report)
    assert difference_to_one_process(on_two, scenario, encoder, tmp_path) < 1e-5


@by_name(RESUMED)
def test_a_resumed_run_ends_with_the_same_bits(on_two, scenario):
    report = on_two.report(scenario.name)
    name, step = scenario.resume
    assert len(report["ranks"][0]["steps"]) == len(on_two.report(name)["ranks"][0]["steps"]) - step
    check_ranks(report, scenario, 2)
    assert largest_difference(on_two.weights(scenario.name), on_two.weights(name)) == 0
