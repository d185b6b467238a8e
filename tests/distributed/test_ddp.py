"""Freezing in stages on several processes: equal replicas, equal to one process, reducing only trained weights."""

from dataclasses import replace

import pytest

from tests.distributed.launching import (
    accelerate,
    difference_to_one_process,
    largest_difference,
    launch,
    launch_scenarios,
    torchrun,
)
from tests.distributed.run_schedule import Scenario

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

STAGES = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": "all", "steps": 2},
        {"train": ["head.slots", "encoder.2"], "steps": 2},
        {"train": "all"},
    ]
}
# Stages that name what was frozen before.
NAMED = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": ["encoder", "heads"], "steps": 2},
        {"train": ["head.slots", "encoder.2"], "steps": 2},
        {"train": ["encoder", "heads"]},
    ]
}
ADAPTERS = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": "all", "steps": 2},
        {"train": ["head.slots", "encoder.2", "lora[:2]"], "steps": 2},
        {"train": "all"},
    ]
}
BY_TASK = {
    "stages": [
        {"train": "head.intent", "steps": 2},
        {"train": ["encoder[-1:]", "head.slots"], "steps": 2},
        {"train": ["embeddings", "head.intent"], "steps": 2},
        {"train": "all"},
    ]
}
PROTECTED = {
    "stages": [{"train": "heads", "steps": 2}, {"train": ["encoder", "head.intent"], "steps": 3}, {"train": "all"}],
    "protect": {"slots": {"distill": 0.5}},
}
# No epoch improves the loss that much, except on the rank that gets another loss.
BY_METRIC = {
    "stages": [
        {"train": "heads", "until": {"metric": "loss", "patience": 1, "min_delta": 0.5}},
        {"train": ["head.slots", "encoder[-2:]"], "until": {"metric": "loss", "patience": 1, "min_delta": 0.5}},
        {"train": "all"},
    ]
}
# The F1 of slots stays 0: the first evaluation is the best, and its weights are restored at the second.
RESTORING = {
    "stages": [
        {"train": ["heads", "encoder.2"], "until": {"metric": "slots_f1", "patience": 1}, "restore_best": True},
        {"train": "all"},
    ]
}
PLAIN_STAGES = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": "all", "steps": 2},
        {"train": ["encoder.2", "head.classifier"], "steps": 2},
        {"train": "all"},
    ]
}
DOWN = {
    "stages": [
        {"train": "heads", "steps": 3},
        {"train": ["heads", "encoder[-2:]"], "steps": 3},
        {"train": ["heads", "encoder.2"], "steps": 2},
        {"train": "all"},
    ]
}
NAMES = {
    "stages": [
        {"train": ["heads", "name:*.bias"], "steps": 3},
        {"train": "all", "freeze": "name:*.LayerNorm.*"},
    ]
}
PRIVATE = {
    "stages": [
        {"train": ["private", "heads"], "steps": 2},
        {"train": ["encoder[-2:]", "heads"], "steps": 2},
        {"train": ["encoder.2", "head.intent"], "steps": 2},
        {"train": "all"},
    ]
}
# All that may freeze does at the first decision.
CONVERGED = {"stages": [{"until": {"converged": {"aggressiveness": 1000, "watch": []}}}]}
SLOTS_MISSING = {"missing": {"slots": 1}}
STORED = {"rows": 25, "arguments": {"store_frozen": "always", "eval_strategy": "epoch"}}
SMALL = {"batch": 3, "accumulation": 2}
EACH_EPOCH = {"eval_strategy": "epoch"}
REENTRANT = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}}

# A batch of 6 on each of 2 processes leaves 10 of 22 rows for the last step, and one row of 25, on rank 0.
EXACT = [
    Scenario("stages", STAGES, **SLOTS_MISSING),
    Scenario("accumulated", STAGES, rows=25, **SMALL, **SLOTS_MISSING),
    Scenario("one row left", STAGES, rows=25, missing={"intent": 1}),
    Scenario("by task", BY_TASK, missing={"intent": 0, "slots": 1}),
    Scenario("mixed", STAGES, data="mixed"),
    Scenario("mixed accumulated", STAGES, data="mixed", **SMALL),
    Scenario("mixed packed", STAGES, data="mixed", arguments={"packing": True}),
    Scenario("streamed", STAGES, data="streamed", arguments={"max_steps": 9}),
    Scenario(
        "streamed by workers",
        STAGES,
        data="streamed",
        arguments={"max_steps": 9, "dataloader_num_workers": 2},
        **SMALL,
    ),
    Scenario("windows", STAGES, data="windows", rows=25),
    Scenario("gradual", "gradual", epochs=5, **SLOTS_MISSING),
    Scenario("names", NAMES, **SLOTS_MISSING),
    Scenario("stored", DOWN, **STORED, **SLOTS_MISSING),
    Scenario("stored accumulated", DOWN, **STORED, **SMALL),
    Scenario("stored windows", DOWN, **STORED, data="windows"),
    Scenario("protected", PROTECTED, arguments=EACH_EPOCH, **SLOTS_MISSING),
    Scenario("contrastive", STAGES, contrastive=True, **SLOTS_MISSING),
    Scenario("frozen before", NAMED, frozen_before=["encoder"], **SLOTS_MISSING),
    Scenario("left frozen", STAGES, frozen_before=["encoder"], **SLOTS_MISSING),
    Scenario("adapters", ADAPTERS, lora_rank=2, **SLOTS_MISSING),
    Scenario("checkpointing", STAGES, rows=25, arguments={"activation_checkpointing": True}, **SMALL, **SLOTS_MISSING),
    Scenario("reentrant", STAGES, rows=25, arguments=REENTRANT, **SMALL, **SLOTS_MISSING),
    Scenario("stored reentrant", DOWN, rows=25, arguments={**STORED["arguments"], **REENTRANT}, **SLOTS_MISSING),
    Scenario("private layers", PRIVATE, slots={"private_layers": 2}, **SLOTS_MISSING),
    Scenario("stored private layers", DOWN, slots={"private_layers": 1}, **STORED),
    Scenario("restoring", RESTORING, epochs=4, arguments=EACH_EPOCH, **SLOTS_MISSING),
    Scenario("converged", CONVERGED, **SLOTS_MISSING),
    Scenario("stored converged", CONVERGED, epochs=6, **STORED),
    Scenario("by metric", BY_METRIC, epochs=8, metric_differs=True, arguments=EACH_EPOCH, **SLOTS_MISSING),
]
SAVED = Scenario(
    "saved",
    STAGES,
    arguments={"save_strategy": "steps", "save_steps": 1, "store_frozen": "always"},
    **SLOTS_MISSING,
)
SAVED_ADAPTERS = replace(SAVED, name="saved adapters", schedule=ADAPTERS, lora_rank=2)
RESUMED = [
    *(replace(SAVED, name=f"resumed {step}", resume=["saved", step]) for step in (2, 5)),
    replace(SAVED_ADAPTERS, name="resumed adapters", resume=["saved adapters", 2]),
]
BF16 = Scenario("bf16", STAGES, arguments={"bf16": True}, **SLOTS_MISSING)
# The rows are a multiple of the batch: Dynamo is slow, and would compile a last batch of another size too.
COMPILED = Scenario("compiled", STAGES, rows=24, arguments={"torch_compile": True, "torch_compile_backend": "eager"})
PLAIN = [
    Scenario("plain", PLAIN_STAGES, "plain", rows=24),
    Scenario("plain converged", CONVERGED, "plain", rows=24),
    Scenario("plain accumulated", PLAIN_STAGES, "plain", rows=24, **SMALL),
]
WRONG = [
    Scenario("naive", None, "naive", rows=24, frozen_before=["encoder"], own_optimizer=True),
    Scenario("unregistered", NAMED, "unregistered", frozen_before=["encoder"]),
]
FROZEN = Scenario("frozen", PLAIN_STAGES, "plain", rows=24, frozen_before=["encoder"])
REFUSED = [
    (FROZEN, "the optimizer does not contain"),
    (replace(FROZEN, name="frozen, own optimizer", own_optimizer=True), "was frozen when DDP wrapped the model"),
    (
        replace(PLAIN[0], name="no look-out", arguments={"activation_checkpointing": True}),
        "Set ddp_find_unused_parameters=True",
    ),
]
ON_THREE = [
    Scenario("stages", STAGES, batch=4, world_size=3, **SLOTS_MISSING),
    Scenario(
        "accumulated", BY_TASK, batch=2, accumulation=2, rows=25, world_size=3, missing={"intent": 0, "slots": 2}
    ),
]


def by_name(scenarios):
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.name)


@pytest.fixture(scope="module")
def on_two(encoder, tmp_path_factory):
    scenarios = [*EXACT, SAVED, SAVED_ADAPTERS, *RESUMED, BF16, *PLAIN, *WRONG]
    return launch_scenarios(torchrun(2), scenarios, encoder, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def on_three(encoder, tmp_path_factory):
    return launch_scenarios(torchrun(3), ON_THREE, encoder, tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def by_accelerate(encoder, tmp_path_factory):
    """Run a scenario that succeeds and then the refused ones, so that the exit code is not 0."""
    folder = tmp_path_factory.mktemp("accelerate")
    scenarios = [EXACT[0], *(scenario for scenario, _ in REFUSED)]
    return launch(accelerate(2, folder), "distributed.run_schedule", folder, scenarios, encoder)


def check_ranks(report, scenario, processes):
    """Check the number of ranks, and that labels were missing on the ranks that the scenario names."""
    ranks = report["ranks"]
    assert report["world_size"] == processes
    assert report["is_ddp"]
    assert [rank["rank"] for rank in ranks] == list(range(processes))
    assert len({rank["pid"] for rank in ranks}) == processes
    for task, without in scenario.missing.items():
        for rank in ranks:
            labelled = sum(step["labelled"][task] for step in rank["steps"])
            assert (labelled == 0) == (rank["rank"] == without), f"labels of {task} on rank {rank['rank']}"


def check_steps(report, only_trained_is_reduced=True):
    """Check that all ranks have the same weights after every step, and that exactly the trained groups have moved."""
    stages = set()
    for rank in report["ranks"]:
        for number, step in enumerate(rank["steps"], 1):
            where = f"rank {rank['rank']}, step {number}"
            assert step["equal"], f"{where}: the replicas differ by {step['drift']}"
            assert step["moved"] == step["trained"], where
            if only_trained_is_reduced:
                assert step["bytes"] == 4 * step["trainable"], where
            stages.add(tuple(step["trained"]))
    assert len(stages) > 1, "the stages do not differ"


@by_name(EXACT)
def test_two_processes_train_as_one_and_reduce_only_what_trains(on_two, scenario, encoder, tmp_path):
    report = on_two.report(scenario.name)
    check_ranks(report, scenario, 2)
    check_steps(report)
    assert difference_to_one_process(on_two, scenario, encoder, tmp_path) < 1e-5


@by_name(ON_THREE)
def test_three_processes_train_as_one_and_reduce_only_what_trains(on_three, scenario, encoder, tmp_path):
    report = on_three.report(scenario.name)
    check_ranks(report, scenario, 3)
    check_steps(report)
    assert difference_to_one_process(on_three, scenario, encoder, tmp_path) < 1e-5


def test_accelerate_launch_starts_two_processes_that_train_as_one(by_accelerate, encoder, tmp_path):
    report = by_accelerate.report("stages")
    check_ranks(report, EXACT[0], 2)
    check_steps(report)
    assert difference_to_one_process(by_accelerate, EXACT[0], encoder, tmp_path) < 1e-5


def test_ranks_whose_metrics_differ_make_the_same_transitions(on_two):
    first, second = (rank["transitions"] for rank in on_two.report("by metric")["ranks"])
    assert first == second
    assert [entry["freeze_stage"] for entry in first] == ["stage 1", "stage 2", "stage 3"]
    assert all("loss has stopped improving" in entry["freeze_reason"] for entry in first[1:])


@pytest.mark.parametrize("name", ["converged", "stored converged", "plain converged"])
def test_all_ranks_measure_the_same_bits_and_freeze_the_same_layers_at_the_same_step(on_two, name):
    first, second = (rank["measured"] for rank in on_two.report(name)["ranks"])
    assert len(first) > 4
    assert first == second
    first, second = (rank["transitions"] for rank in on_two.report(name)["ranks"])
    assert first == second
    assert "have stopped learning" in first[1]["freeze_reason"]


def test_best_weights_are_restored_on_every_rank(on_two):
    for rank in on_two.report("restoring")["ranks"]:
        assert [entry.get("restored_step") for entry in rank["transitions"]] == [None, 2]


@by_name(RESUMED)
def test_a_resumed_run_ends_with_the_same_bits(on_two, scenario):
    report = on_two.report(scenario.name)
    check_ranks(report, scenario, 2)
    check_steps(report)
    assert len(report["ranks"][0]["steps"]) == 8 - scenario.resume[1]
    assert largest_difference(on_two.weights(scenario.name), on_two.weights(scenario.resume[0])) == 0


@by_name([scenario for scenario in EXACT if scenario.name.startswith("stored") and scenario.schedule != CONVERGED])
def test_every_rank_reads_cached_states_while_layers_are_frozen(on_two, scenario):
    for rank in on_two.report(scenario.name)["ranks"]:
        micro_batches = scenario.accumulation
        stored = [step["stored_batches"] for step in rank["steps"]]
        assert stored[:8] == [micro_batches, micro_batches, min(micro_batches, 1)] * 2 + [micro_batches] * 2
        assert set(stored[8:]) == {0}


def test_every_rank_reads_cached_states_once_layers_have_stopped_learning(on_two):
    for rank in on_two.report("stored converged")["ranks"]:
        stored = [step["stored_batches"] for step in rank["steps"]]
        step = rank["transitions"][1]["step"]
        assert stored == [0] * step + [1] * (len(stored) - step)


def test_activation_checkpointing_is_really_on(on_two):
    assert on_two.report("checkpointing")["checkpointing"]
    assert not on_two.report("accumulated")["checkpointing"]
    assert largest_difference(on_two.weights("checkpointing"), on_two.weights("accumulated")) < 1e-5


def test_replicas_stay_equal_in_bf16(on_two):
    report = on_two.report("bf16")
    assert report["mixed_precision"] == "bf16"
    check_ranks(report, BF16, 2)
    check_steps(report)
    assert largest_difference(on_two.weights("bf16"), on_two.weights("stages")) > 0


def test_compiled_replicas_stay_equal_and_reduce_only_what_trains(encoder, tmp_path):
    done = launch_scenarios(torchrun(2), [COMPILED], encoder, tmp_path)
    report = done.report("compiled")
    assert report["is_compiled"]
    check_ranks(report, COMPILED, 2)
    check_steps(report)
    eager = replace(COMPILED, arguments={})
    assert difference_to_one_process(done, eager, encoder, tmp_path) < 1e-5


@by_name(PLAIN)
def test_a_plain_trainer_with_the_callback_trains_as_one_process(on_two, scenario, encoder, tmp_path):
    report = on_two.report(scenario.name)
    check_ranks(report, scenario, 2)
    check_steps(report, only_trained_is_reduced=False)
    assert difference_to_one_process(on_two, scenario, encoder, tmp_path) < 1e-5


@by_name(WRONG)
def test_the_check_notices_replicas_that_drift_apart(on_two, scenario):
    report = on_two.report(scenario.name)
    with pytest.raises(AssertionError, match="the replicas differ by"):
        check_steps(report)
    # Replicas are equal until the encoder is unfrozen.
    assert [step["equal"] for step in report["ranks"][0]["steps"][:3]] == [True, True, False]


@pytest.mark.parametrize(("scenario", "message"), REFUSED, ids=lambda value: getattr(value, "name", False))
def test_settings_that_let_replicas_drift_are_refused_in_a_plain_trainer(by_accelerate, scenario, message):
    assert by_accelerate.returncode != 0
    assert message in by_accelerate.output
    for rank in by_accelerate.report(scenario.name)["ranks"]:
        assert message in rank["error"]
        assert rank["steps"] == []
