"""Freezing in stages under FSDP2 on the CPU: in a hand-written loop, with accelerate, and with the Trainer."""

import json
from dataclasses import replace

import pytest
import torch

from hf_multitask.models.abstention import STATE_METHODS
from tests.distributed.launching import difference_to_one_process, largest_difference, launch, torchrun
from tests.distributed.run_fsdp import MODELS, STAGES, fit_distances, run_fsdp
from tests.distributed.test_ddp import EXACT, check_ranks, check_steps

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

ASKED_FOR = replace(EXACT[0], name="fsdp asked for", arguments={"fsdp": True})
WAYS = pytest.mark.parametrize("way", ["by hand", "accelerate"])
WHAT = pytest.mark.parametrize("what", MODELS)


@pytest.fixture(scope="module")
def on_two(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdp")
    done = launch(torchrun(2), "distributed.run_fsdp", folder, [ASKED_FOR], encoder)
    assert done.returncode == 0, done.output[-5000:]
    return done


@pytest.fixture(scope="module")
def alone(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for what in MODELS:
        run_fsdp("alone", what, str(encoder), folder)
    return {
        what: (json.loads((folder / f"alone {what}.json").read_text()), torch.load(folder / f"alone {what}.pt"))
        for what in MODELS
    }


@WAYS
@WHAT
def test_every_weight_is_sharded(on_two, way, what):
    report = on_two.report(f"{way} {what}")
    assert report["is_fsdp2"]
    assert report["sharded"] == report["weights"] > 0


@WAYS
@WHAT
def test_sharded_stages_train_as_one_process(on_two, alone, way, what):
    assert largest_difference(on_two.weights(f"{way} {what}"), alone[what][1]) < 1e-6


@WAYS
@WHAT
def test_sharded_stages_move_exactly_what_they_train(on_two, way, what):
    stages = on_two.report(f"{way} {what}")["stages"]
    assert [stage["moved"] for stage in stages] == MODELS[what][1]
    assert [stage["with_gradient"] for stage in stages] == MODELS[what][1]


@WAYS
def test_frozen_layers_stay_in_eval_mode_when_sharded(on_two, alone, way):
    def layers(report):
        return [
            [name for name in stage["eval_mode"] if name.count(".") == 2 and name.startswith("encoder.layer.")]
            for stage in report["stages"]
        ]

    frozen = [
        [f"encoder.layer.{i}" for i in range(3) if f"encoder.{i}" not in trained and "encoder.2" in trained]
        for trained in STAGES
    ]
    report = on_two.report(f"{way} layers")
    assert layers(report)[1:] == frozen[1:]
    assert [stage["eval_mode"] for stage in report["stages"]] == [
        stage["eval_mode"] for stage in alone["layers"][0]["stages"]
    ]


@pytest.mark.parametrize("method", STATE_METHODS)
def test_distances_of_sharded_models_are_those_of_one_process(on_two, encoder, tmp_path, method):
    fit_distances("alone", method, str(encoder), tmp_path)
    expected = torch.load(tmp_path / f"alone {method} 0.pt")
    for rank in (0, 1):
        found = on_two.weights(f"accelerate {method} {rank}")
        assert found["stored"] == expected["stored"]
        assert torch.allclose(found["statistic"], expected["statistic"], rtol=1e-3, atol=1e-3)
    assert expected["stored"] == (16 if method == "knn" else 0)
    assert method == "knn" or expected["statistic"].std() > 0.01


def test_accelerate_turns_fsdp_into_ddp_on_the_cpu_and_the_schedule_is_followed(on_two, encoder, tmp_path):
    # If this changes, the Trainer itself can be tested under FSDP here.
    assert on_two.report("accelerate layers")["found"] == "MULTI_CPU"
    report = on_two.report(ASKED_FOR.name)
    assert report["distributed_type"] == "MULTI_CPU"
    check_ranks(report, ASKED_FOR, 2)
    check_steps(report)
    assert difference_to_one_process(on_two, replace(ASKED_FOR, arguments={}), encoder, tmp_path) < 1e-5
