"""Weights chosen by a pattern of their names: groups of their own, trained and frozen by themselves."""

import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from hf_multitask import FreezeCallback, freeze
from hf_multitask.freezing.presets import build_schedule
from hf_multitask.models.layer_groups import layer_groups, layer_ranges
from tests.freezing.test_callback import make_trainer as make_plain_trainer
from tests.freezing.test_callback import rows, stock  # noqa: F401
from tests.trainers import make_trainer

BIASES = "name:*.bias"
NORMS = "name:*.LayerNorm.*"


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def moved(model, before):
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


def train(model, data, tokenizer, folder, schedule, **arguments):
    defaults = {"max_steps": 3, "learning_rate": 1e-2, "weight_decay": 0.1}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, **{**defaults, **arguments})
    before = weights_of(model)
    trainer.train()
    return trainer, moved(model, before)


def is_head(name):
    return name.startswith("heads.")


def test_each_weight_is_in_one_group(model):
    groups = model.layer_groups()
    divided = groups.divide(["*.bias", "*.LayerNorm.*"])
    names = [name for group in divided for name in group.parameters]
    assert sorted(names) == sorted(dict(model.named_parameters()))
    assert divided.divide(["*.bias"]) == divided
    assert divided.layers == groups.layers
    assert [group.name for group in divided.undivided()] == [group.name for group in groups]
    for whole, group in zip(divided.undivided(), groups, strict=True):
        assert whole.parameters.keys() == group.parameters.keys()
    biases = {name for name in names if name.endswith(".bias")}
    assert set(divided.parameters_of(divided.select(BIASES))) == biases
    # A weight that two patterns match, and one of each.
    assert {"encoder.0", "encoder.0:*.bias", "encoder.0:*.LayerNorm.*", "encoder.0:*.bias+*.LayerNorm.*"} <= {
        group.name for group in divided
    }


def test_a_group_selects_all_its_parts(model):
    divided = model.layer_groups().divide(["*.bias"])
    for selector in ("encoder.1", "encoder[1:2]"):
        assert divided.select(selector) == ["encoder.1", "encoder.1:*.bias"]
    assert len(divided.select("all")) == len(divided)
    assert divided.select(["heads"]) == [group.name for group in divided if group.is_head]
    assert layer_ranges(divided.select(["encoder.0", "encoder[1:]"])) == ["encoder.0-2", "encoder.0-2:*.bias"]


def test_a_pattern_that_matches_nothing_is_refused(model):
    with pytest.raises(ValueError, match=r"name:\*\.biass matches no weight of the model; expected a pattern such as"):
        build_schedule(["name:*.biass"], model.layer_groups(), 3)
    with pytest.raises(ValueError, match=r"freeze: name:.* matches no weight"):
        freeze(model, "name:*.norm.*")


@pytest.mark.parametrize(
    ("schedule", "trains"),
    [
        ("bitfit", lambda name: is_head(name) or name.endswith(".bias")),
        ("layernorm", lambda name: is_head(name) or "LayerNorm" in name),
        ([BIASES, "embeddings"], lambda name: not name.endswith(".bias") and "embeddings" not in name),
        (
            {"stages": [{"train": ["encoder[-1:]", BIASES], "freeze": NORMS}]},
            lambda name: (".layer.2." in name or name.endswith(".bias")) and "LayerNorm" not in name,
        ),
    ],
    ids=["bitfit", "layernorm", "static", "stage"],
)
def test_exactly_the_selected_weights_train(model, data, tokenizer, tmp_path, schedule, trains):
    trainer, trained = train(model, data, tokenizer, tmp_path, schedule)
    (stage,) = trainer.plan()
    expected = {name for name, _ in model.named_parameters() if trains(name)}
    assert trained == expected
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    assert stage.trainable_parameters == sum(sizes[name] for name in expected)
    assert stage.gradient_bytes == 4 * stage.trainable_parameters


def test_stages_change_what_patterns_train(model, data, tokenizer, tmp_path):
    schedule = {"stages": [{"name": "biases", "train": ["heads", BIASES], "steps": 2}, {"name": "all"}]}
    trainer, trained = train(model, data, tokenizer, tmp_path, schedule)
    assert trained == set(dict(model.named_parameters()))
    assert [stage.trainable_share < 0.1 for stage in trainer.plan()] == [True, False]


def test_a_part_has_the_rate_of_its_layer(model, data, tokenizer, tmp_path):
    arguments = {"layer_lr_decay": 0.5, "head_learning_rate": 1e-1}
    trainer = make_trainer(model, data, tokenizer, tmp_path, "bitfit", learning_rate=1e-2, **arguments)
    (stage,) = trainer.plan()
    rates = stage.learning_rates
    assert rates["encoder.2:encoder.*.bias"] == 1e-2
    assert rates["encoder.0:encoder.*.bias"] == pytest.approx(2.5e-3)
    assert rates["embeddings:encoder.*.bias"] == pytest.approx(1.25e-3)
    assert rates["head.intent"] == 1e-1


def test_frozen_layers_below_a_pattern_are_computed_once(model, data, tokenizer, tmp_path):
    results = []
    before = weights_of(model)
    for mode in ("never", "always"):
        model.load_state_dict(before)
        schedule = {"stages": [{"train": ["heads", "name:*.layer.2.*.bias"]}]}
        trainer = make_trainer(
            model, data, tokenizer, tmp_path, schedule, max_steps=3, store_frozen=mode, store_dir=str(tmp_path / "s")
        )
        trainer.train()
        results.append(weights_of(model))
    assert list((tmp_path / "s").iterdir())
    for name, weight in results[0].items():
        assert torch.allclose(weight, results[1][name], atol=1e-6), name


def test_a_plain_trainer_follows_patterns(stock, rows, tmp_path):  # noqa: F811
    before = weights_of(stock)
    make_plain_trainer(stock, rows, tmp_path, [FreezeCallback("bitfit")]).train()
    heads = {name for group in layer_groups(stock) if group.is_head for name in group.parameters}
    assert moved(stock, before) == heads | {name for name in before if name.endswith(".bias")}


def test_static_freezing_by_a_pattern(model):
    frozen = freeze(model, ["name:*.LayerNorm.*"])
    assert frozen
    for name, weight in model.named_parameters():
        assert weight.requires_grad == ("LayerNorm" not in name)
    model.train()
    assert not model.encoder.encoder.layer[0].output.LayerNorm.training
    assert model.encoder.encoder.layer[0].output.dropout.training


def test_an_encoder_without_biases_has_no_bitfit():
    config = ModernBertConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0
    )
    groups = layer_groups(ModernBertModel(config))
    with pytest.raises(ValueError, match="matches no weight"):
        build_schedule("bitfit", groups, 3)
    schedule = build_schedule("layernorm", groups, 3)
    divided = groups.divide(schedule.name_patterns)
    trained = divided.parameters_of(schedule.stages[0].trained(divided))
    assert set(trained) == {name for group in groups for name in group.parameters if "norm" in name}


RESUMED = {
    "stages": [
        {"name": "biases", "train": ["heads", BIASES], "steps": 3},
        {
            "name": "without norms",
            "train": "all",
            "freeze": NORMS,
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"metric": "slots_f1", "patience": 0, "factor": 0.5},
        },
    ]
}


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_resumed_run_is_the_same_run(step, model, data, tokenizer, tmp_path):
    """Before, at and after the change of stage; the second one lowers its rates by what it has seen."""
    arguments = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    arguments |= {"max_steps": 7, "logging_steps": 1, "learning_rate": 1e-3, "store_frozen": "never"}
    start = weights_of(model)
    runs = []
    for checkpoint in (None, tmp_path / f"checkpoint-{step}"):
        model.load_state_dict(start)
        trainer = make_trainer(model, data, tokenizer, tmp_path, RESUMED, **arguments)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        rates = [
            {key: value for key, value in entry.items() if key.startswith("learning_rate")}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        runs.append((weights_of(model), rates))
    (expected, expected_rates), (found, rates) = runs
    assert rates == expected_rates
    assert rates[-1]["learning_rate_head.slots"] < rates[3]["learning_rate_head.slots"]
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
