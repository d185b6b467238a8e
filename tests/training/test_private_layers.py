"""Trainings of models with private layers: groups, rates, stored states, gradients of tasks, a run from a config."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import pipeline

from hf_multitask import MultiTaskModel
from hf_multitask.cli import main
from hf_multitask.freezing.presets import build_schedule
from hf_multitask.freezing.rates import peak_rates
from hf_multitask.models.encoder_partial_forward import HEADS, lowest_trained
from tests.tiny import save_tiny_run
from tests.trainers import make_trainer, without_dropout

SHARED = ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
PRIVATE = ["private.slots.1", "private.slots.2"]
ABOVE = ["head.intent", "head.slots"]


@pytest.fixture
def build(encoder, data):
    def build_model(private=2):
        torch.manual_seed(0)
        tasks = [replace(task, private_layers=private * task.is_token_task) for task in data.tasks]
        return without_dropout(MultiTaskModel.from_encoder(encoder, tasks))

    return build_model


@pytest.fixture
def train(build, data, tokenizer, tmp_path):
    def run(schedule=None, private=2, **arguments):
        given = {"max_steps": 12, "logging_steps": 1, "learning_rate": 1e-3, **arguments}
        trainer = make_trainer(build(private), data, tokenizer, tmp_path / "out", schedule, **given)
        before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
        trainer.train()
        groups = trainer.model.layer_groups()
        moved = [g.name for g in groups if any(not torch.equal(w, before[name]) for name, w in g.parameters.items())]
        return trainer, moved

    return run


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("all", [*SHARED, *PRIVATE, *ABOVE]),
        ("encoder", [*SHARED, *PRIVATE]),
        ("encoder[-1:]", ["encoder.2", "private.slots.2"]),
        ("encoder[:2]", ["encoder.0", "encoder.1", "private.slots.1"]),
        ("encoder.2", ["encoder.2"]),
        ("private", PRIVATE),
        ("private.slots", PRIVATE),
        ("private.slots.1", ["private.slots.1"]),
        ("heads", ABOVE),
    ],
)
def test_selectors(build, selector, names):
    groups = build().layer_groups()
    assert groups.select(selector) == names
    assert groups.layers == ["encoder.0", "encoder.1", "encoder.2"]
    assert [group.name for group in groups if group.is_shared] == SHARED


def test_a_misspelt_selector_names_the_private_layers(build):
    with pytest.raises(ValueError, match=r"private\.slots"):
        build().layer_groups().select("private.slot")


def test_groups_are_printed(build):
    shown = str(build().layer_groups().repr_tables()[0])
    assert "private.slots.1-2" in shown


@pytest.mark.parametrize(
    ("preset", "trained"),
    [
        ("encoder", [ABOVE]),
        ("top:1", [["encoder.2", "private.slots.2", *ABOVE]]),
        ("heads-then-all", [ABOVE, [*SHARED, *PRIVATE, *ABOVE]]),
        ("head:slots", [[*SHARED, *PRIVATE, "head.intent"]]),
    ],
)
def test_presets_treat_a_private_layer_as_the_layer_in_whose_place_it_is(build, preset, trained):
    groups = build().layer_groups()
    stages = build_schedule(preset, groups, 3).stages
    assert [
        [name for name in (g.name for g in groups) if name in stage.trained(groups)] for stage in stages
    ] == trained


def test_rates_are_those_of_the_depth(build):
    rates = peak_rates(build().layer_groups(), 1.0, 10.0, layer_lr_decay=0.5)
    assert [rates[name] for name in PRIVATE] == [rates["encoder.1"], rates["encoder.2"]] == [0.5, 1.0]


def test_states_are_stored_below_the_lowest_private_layer():
    names = [*SHARED, *PRIVATE, *ABOVE]
    assert lowest_trained(names, ["head.slots"]) == "encoder.1"
    assert lowest_trained(names, ["private.slots.2"]) == "encoder.1"
    assert lowest_trained(names, ["encoder.0"]) == "encoder.0"
    assert lowest_trained([*SHARED, *ABOVE], ["head.slots"]) == HEADS


@pytest.mark.parametrize("preset", ["encoder", "top:1", ["encoder[:1]", "embeddings"]], ids=str)
def test_stored_states_change_no_loss(train, tmp_path, preset):
    stored, _ = train(preset, store_frozen="always", store_dir=str(tmp_path / "store"))
    computed, _ = train(preset, store_frozen="never")
    assert list((tmp_path / "store").iterdir())
    assert losses(stored) == pytest.approx(losses(computed), rel=1e-5)


def test_a_schedule_moves_what_it_trains(train):
    _, moved = train({"stages": [{"train": ["private", "head.slots"]}]})
    assert moved == [*PRIVATE, "head.slots"]
    _, moved = train("encoder")
    assert moved == ABOVE
    _, moved = train()
    assert moved == [*SHARED, *PRIVATE, *ABOVE]


@pytest.mark.parametrize(
    ("trained", "at_risk"),
    [
        (["private.slots", "head.slots"], []),
        (["private.slots", "head.intent"], ["head.slots"]),
        (["encoder.2", "head.intent"], []),
        (["encoder.2"], ["head.intent"]),
        (["encoder.0"], ["head.intent", "head.slots"]),
    ],
    ids=str,
)
def test_heads_are_at_risk_from_the_layers_that_they_use(build, trained, at_risk):
    groups = build().layer_groups()
    schedule = build_schedule({"stages": [{"train": trained}]}, groups, 3)
    assert schedule.at_risk(groups.select(trained), groups) == at_risk


def test_conflict_is_that_of_the_shared_layers(train):
    trainer, _ = train(conflict_steps=4)
    (first, *_) = [entry for entry in trainer.state.log_history if "conflict_intent_slots_all" in entry]
    measured = {name.removeprefix("conflict_intent_slots_") for name in first if name.startswith("conflict_")}
    # The gradient of the slots does not reach the upper shared layers.
    assert {"embeddings", "encoder.0"} <= measured
    assert not any("private" in name for name in first if name.startswith(("conflict_", "gradient_share_")))


def test_the_sum_of_the_gradients_is_a_plain_training(train):
    plain, _ = train()
    summed, _ = train(loss_balancing={"torchjd": "Sum"})
    assert losses(summed) == pytest.approx(losses(plain), rel=1e-4)


def test_checkpointed_activations_change_no_loss(train):
    checkpointed, _ = train(activation_checkpointing=True)
    plain, _ = train()
    assert losses(checkpointed) == pytest.approx(losses(plain), rel=1e-5)


def test_compiled(train):
    compiled, moved = train(torch_compile=True, torch_compile_backend="eager", max_steps=3)
    plain, _ = train(max_steps=3)
    assert moved == [*SHARED, *PRIVATE, *ABOVE]
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)


def test_a_resumed_training_ends_with_the_same_weights(train, tmp_path):
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "constant"}
    whole, _ = train("heads-then-all", **options)
    again = make_trainer(
        *(whole.model, {"train": whole.train_dataset}, whole.processing_class, tmp_path / "out"),
        "heads-then-all",
        **{**options, "logging_steps": 1, "learning_rate": 1e-3},
    )
    expected = {name: weight.detach().clone() for name, weight in whole.model.named_parameters()}
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    for name, weight in again.model.named_parameters():
        assert torch.equal(weight, expected[name]), name


def test_a_run_from_a_config(tmp_path, capsys):
    path = save_tiny_run(tmp_path, {"num_train_epochs": 2, "learning_rate": 1e-3}, tmp_path / "out")
    config = yaml.safe_load(path.read_text())
    config["tasks"][1]["private_layers"] = 1
    path.write_text(yaml.safe_dump(config))
    assert main(["plan", str(path)]) == 0
    assert "private.slots.2" in capsys.readouterr().out
    assert main(["train", str(path)]) == 0
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [task["private_layers"] for task in saved["tasks"]] == [0, 1]
    (answer,) = pipeline("multi-task", model=str(tmp_path / "out"))(["play some music"])
    assert set(answer) == {"intent", "slots"}
