"""An LSTM, mixed layers, a CRF, an EMA and a teacher on two processes: equal replicas, equal to one process."""

from dataclasses import replace

import pytest

from tests.distributed.launching import difference_to_one_process, largest_difference, launch_scenarios, torchrun
from tests.distributed.run_schedule import Scenario
from tests.distributed.test_ddp import EACH_EPOCH, STAGES, by_name, check_ranks, check_steps

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

HEAD = {"head": "lstm", "mix_layers": True, "crf": True}
STEPS = {**EACH_EPOCH, "save_strategy": "steps", "save_steps": 1, "ema_decay": 0.8}
EXACT = [
    Scenario("heads", STAGES, slots=HEAD, arguments=STEPS),
    # A head whose batch has no labels must not make DDP wait for its gradients.
    Scenario("missing", STAGES, slots=HEAD, missing={"slots": 1}, arguments=STEPS),
    # One row is left for the last step, so that one process has none.
    Scenario("distilled", STAGES, slots={"crf": True}, rows=25, batch=3, accumulation=2, data="distilled"),
]
RESUMED = [replace(EXACT[0], name="resumed", resume=["heads", 3])]


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
    check_ranks(report, scenario, 2)
    assert largest_difference(on_two.weights(scenario.name), on_two.weights(scenario.resume[0])) == 0
