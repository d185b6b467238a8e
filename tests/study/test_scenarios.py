"""Default scenarios, and scenarios found by name."""

import pytest

from hf_multitask import TaskConfig
from hf_multitask.freezing import build_schedule
from hf_multitask.study.scenarios import find_racers, find_scenarios, list_scenarios

TASKS = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]


def test_the_scenarios_of_two_tasks_on_six_layers():
    assert list(list_scenarios(TASKS, 6)) == [
        "everything-frozen",
        "encoder-frozen",
        "nothing-frozen",
        "intent-head-frozen-safe",
        "intent-head-frozen-risky",
        "slots-head-frozen-safe",
        "slots-head-frozen-risky",
        "heads-then-all",
        "three-stage",
        "gradual",
        "top:1",
        "top:2",
        "top:4",
        "progressive",
        "converged",
        "encoder[:2]",
        "encoder[2:4]",
        "nothing-frozen:one-rate",
        "heads-then-all:one-rate",
        "intent-alone",
        "slots-alone",
    ]


def test_one_task_has_no_scenarios_that_need_two():
    assert not any(name.startswith("slots") for name in list_scenarios(TASKS[1:], 6))


def test_an_encoder_that_is_not_divided_has_no_scenarios_of_single_layers():
    names = list(list_scenarios(TASKS, 0))
    assert "heads-then-all" in names
    assert not {"three-stage", "gradual", "progressive", "converged", "top:1"} & set(names)


def test_the_scenario_that_another_starts_from_is_added():
    found = find_scenarios(["slots-head-frozen-safe", "top:3"], TASKS, 6)
    assert [scenario.name for scenario in found] == ["slots-head-frozen-safe", "top:3", "nothing-frozen"]
    assert (found[0].frozen_task, found[0].starts_from) == ("slots", "nothing-frozen")


def test_one_rate_can_follow_any_scenario_that_trains():
    (found,) = find_scenarios(["top:2:one-rate"], TASKS, 6)
    assert (found.freeze, found.one_rate, found.folder_name) == ("top:2", True, "top-2-one-rate")


def test_scenarios_of_adapters_are_found_by_name():
    found = find_scenarios(["lora", "lora:top:2", "lora:one-rate"], TASKS, 6)
    assert [(scenario.name, scenario.freeze, scenario.lora) for scenario in found] == [
        ("lora", "none", {}),
        ("lora:top:2", "none", {"layers": "encoder[-2:]"}),
        ("lora:one-rate", "none", {}),
    ]
    assert found[1].folder_name == "lora-top-2"
    with pytest.raises(ValueError, match=r"unknown scenario 'lora:top:7'.*lora:top:<k> go from top:1 to top:6"):
        find_scenarios(["lora:top:7"], TASKS, 6)
    assert [scenario.name for scenario in find_scenarios(["lora"], TASKS, 0)] == ["lora"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("heads-than-all", "unknown scenario 'heads-than-all'. Did you mean 'heads-then-all'.* 'progressive'"),
        ("intents-alone", "Did you mean 'intent-alone'"),
        ("top:7", "top:<k> and lora:top:<k> go from top:1 to top:6"),
        ("top:0", "unknown scenario 'top:0'"),
        ("everything-frozen:one-rate", "unknown scenario 'everything-frozen:one-rate'"),
        ("gradua:one-rate", "unknown scenario 'gradua:one-rate'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(name, message):
    with pytest.raises(ValueError, match=message):
        find_scenarios([name], TASKS, 6)


def test_a_name_given_twice_is_refused():
    with pytest.raises(ValueError, match="top:1 is named more than once"):
        find_scenarios(["top:1", "top:1"], TASKS, 6)


@pytest.mark.parametrize(("steps_per_epoch", "max_steps"), [(4, 12), (32, 96), (2, 20), (7, 9)])
def test_gradual_fits_into_runs_of_any_length(model, steps_per_epoch, max_steps):
    groups = model.layer_groups()
    (gradual,) = find_scenarios(["gradual"], TASKS, 3)
    schedule = build_schedule(gradual.freeze_for(steps_per_epoch, max_steps), groups, max_steps / steps_per_epoch)
    schedule.check_length(steps_per_epoch, max_steps)
    assert len(schedule.stages) == gradual.num_stages == 5


def test_a_block_of_layers_is_found_by_its_selector():
    found = find_scenarios(["encoder[:2]", "encoder[2:4]", "encoder[4:]", "top:2"], TASKS, 6)
    assert [scenario.name for scenario in found] == ["encoder[:2]", "encoder[2:4]", "encoder[4:6]", "top:2"]
    assert [scenario.folder_name for scenario in found[:2]] == ["encoder-0-2", "encoder-2-4"]
    assert found[1].freeze == {"stages": [{"train": ["heads", "encoder[2:4]"]}]}
    with pytest.raises(ValueError, match=r"encoder\[:2\] is named more than once"):
        find_scenarios(["encoder[:2]", "encoder[0:2]"], TASKS, 6)
    for name in ("encoder[4:2]", "encoder[:7]", "encoder[2]", "encoder[:]x"):
        with pytest.raises(ValueError, match=r"encoder\[<from>:<to>\] goes from 0 to 6"):
            find_scenarios([name], TASKS, 6)


def test_a_block_trains_these_layers_and_the_heads(model):
    groups = model.layer_groups()
    (block,) = find_scenarios(["encoder[1:2]"], TASKS, 3)
    schedule = build_schedule(block.freeze_for(4, 12), groups, 3)
    (stage,) = schedule.stages
    assert stage.trained(groups) == ["encoder.1", "head.intent", "head.slots"]


def test_all_that_train_every_task_from_the_encoder_race():
    names = [scenario.name for scenario in find_racers(None, TASKS, 6)]
    assert {"encoder-frozen", "nothing-frozen", "converged", "encoder[:2]", "encoder[2:4]", "top:2"} <= set(names)
    assert not {"everything-frozen", "intent-alone", "slots-head-frozen-safe"} & set(names)
