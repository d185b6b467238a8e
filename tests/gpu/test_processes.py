"""Several processes on GPUs: NCCL with one and two of them, and the Trainer's own FSDP2."""

from dataclasses import replace

import pytest
import torch

from hf_multitask import MultiTaskModel
from tests.distributed.launching import largest_difference, launch, launch_scenarios, torchrun
from tests.distributed.run_schedule import Scenario, run
from tests.distributed.test_ddp import DOWN, PROTECTED, STAGES, check_ranks, check_steps
from tests.gpu import run_fsdp
from tests.gpu.devices import NEEDS_CUDA, NEEDS_TWO

pytestmark = pytest.mark.gpu

SCENARIOS = [
    Scenario("stages", STAGES),
    Scenario("accumulated", STAGES, batch=3, accumulation=2),
    Scenario("stored", DOWN, arguments={"store_frozen": "always", "eval_strategy": "epoch"}),
    Scenario("protected", PROTECTED, arguments={"eval_strategy": "epoch"}),
    Scenario("bf16", STAGES, arguments={"bf16": True}),
]
NUMBERS = [1, pytest.param(2, marks=NEEDS_TWO)]


# With gloo, tests/distributed runs the same scenarios.
@NEEDS_CUDA
@pytest.mark.parametrize("processes", NUMBERS)
def test_ddp_with_nccl_trains_as_one_process(processes, encoder, tmp_path):
    places = {"use_cpu": False, "tf32": False}
    scenarios = [
        replace(scenario, world_size=processes, arguments={**scenario.arguments, **places}) for scenario in SCENARIOS
    ]
    done = launch_scenarios(torchrun(processes), scenarios, encoder, tmp_path)
    for scenario in scenarios:
        report = done.report(scenario.name)
        assert report["world_size"] == processes
        assert (report["device"], report["backend"]) == ("cuda", "nccl")
        assert report["is_ddp"]
        check_ranks(report, scenario, processes)
        check_steps(report)
        assert run(scenario.alone(), str(encoder), tmp_path / "alone") is None
        weights = torch.load(tmp_path / "alone" / f"{scenario.name}.pt")
        bound = 1e-2 if scenario.arguments.get("bf16") else 2e-3
        assert largest_difference(weights, done.weights(scenario.name)) < bound, scenario.name


def test_the_program_for_fsdp_trains_its_stages(encoder, tmp_path):
    trainer, recorder = run_fsdp.train(encoder, tmp_path, use_cpu=True)
    found = run_fsdp.report(trainer, recorder)
    assert (found["distributed_type"], found["is_fsdp2"], found["sharded"]) == ("NO", False, 0)
    assert len(found["losses"]) == len(found["moved"]) == run_fsdp.STEPS
    assert all(name.startswith("heads.") for name in found["moved"][0])
    assert len(found["moved"][4]) > len(found["moved"][2]) > len(found["moved"][0]) > 0


@NEEDS_CUDA
@pytest.mark.parametrize("processes", NUMBERS)
def test_the_trainers_own_fsdp_shards_and_follows_the_schedule(processes, encoder, tmp_path):
    done = launch(torchrun(processes), "gpu.run_fsdp", tmp_path, [], encoder)
    assert done.returncode == 0, done.output[-5000:]
    reports = done.report("fsdp")
    trainer, recorder = run_fsdp.train(
        encoder, tmp_path / "alone", per_device_train_batch_size=4 * processes, save_strategy="no"
    )
    expected, whole, resumed = run_fsdp.report(trainer, recorder), reports["whole"], reports["resumed"]
    assert whole["world_size"] == processes
    assert whole["distributed_type"] == "FSDP"
    assert whole["is_fsdp2"]
    assert whole["sharded"] == whole["weights"] == expected["weights"]
    assert whole["moved"] == expected["moved"]
    assert whole["losses"] == pytest.approx(expected["losses"], abs=1e-3)
    assert whole["eval_losses"] == pytest.approx(expected["eval_losses"], abs=1e-3)
    assert resumed["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    saved = MultiTaskModel.from_pretrained(tmp_path / "saved").state_dict()
    for name, weight in trainer.model.state_dict().items():
        assert torch.allclose(saved[name], weight.cpu(), atol=1e-3), name
