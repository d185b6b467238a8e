"""Static freezing: what is frozen stays, what is not moves."""

import pytest
import torch

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments, freeze
from hf_multitask.freezing import group_modules, select_groups

COMBINATIONS = [
    ["encoder"],
    ["head.intent"],
    ["head.slots"],
    ["heads"],
    ["encoder", "head.intent"],
    ["encoder", "head.slots"],
    [],
]
OPTIMIZERS = [
    {"optim": "adamw_torch_fused", "weight_decay": 0.1},
    {"optim": "sgd", "optim_args": "momentum=0.9", "weight_decay": 0.1},
    {"optim": "adafactor", "max_grad_norm": 0.0},
]


def train(model, data, tokenizer, folder, frozen, **arguments):
    args = MultiTaskTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        max_steps=3,
        learning_rate=1e-2,
        warmup_steps=0,
        save_strategy="no",
        report_to="none",
        **arguments,
    )
    trainer = MultiTaskTrainer(
        model=model, args=args, freeze=frozen, train_dataset=data["train"], processing_class=tokenizer
    )
    trainer.train()
    return trainer


def groups_of(model):
    return {
        name: {key: value.clone() for key, value in module.state_dict().items()}
        for name, module in group_modules(model).items()
    }


@pytest.mark.parametrize("frozen", COMBINATIONS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda arguments: arguments["optim"])
def test_frozen_weights_are_bit_equal_and_the_others_have_moved(model, data, tokenizer, tmp_path, frozen, optimizer):
    before = groups_of(model)
    train(model, data, tokenizer, tmp_path, frozen, gradient_accumulation_steps=2, **optimizer)
    frozen_groups = select_groups(model, frozen)
    for name, weights in groups_of(model).items():
        for key, value in weights.items():
            if name in frozen_groups:
                assert torch.equal(value, before[name][key])
        if name not in frozen_groups:
            for key, parameter in group_modules(model)[name].named_parameters():
                assert not torch.equal(parameter, before[name][key]), f"{name}.{key} has not moved"


def test_a_frozen_group_has_no_gradient_no_optimizer_state_and_no_dropout(model, data, tokenizer, tmp_path):
    trainer = train(model, data, tokenizer, tmp_path, ["encoder", "head.intent"])
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    in_state = {id(parameter) for parameter in trainer.optimizer.state}
    assert in_state == {id(parameter) for parameter in model.heads["slots"].parameters()}
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert not any(module.training for module in model.heads["intent"].modules())
    assert model.heads["slots"].training


def test_dropout_would_show_if_a_frozen_encoder_trained(model, data, tokenizer):
    batch = {"input_ids": torch.tensor([data["train"][0]["input_ids"]])}
    freeze(model, "encoder")
    model.train()
    states = [model.encoder(**batch).last_hidden_state for _ in range(2)]
    assert torch.equal(*states)
    freeze(model, "none")
    model.train()
    states = [model.encoder(**batch).last_hidden_state for _ in range(2)]
    assert not torch.equal(*states)


def test_freezing_again_replaces_what_was_frozen(model):
    assert freeze(model, ["encoder", "head.intent"]) == ["encoder", "head.intent"]
    assert freeze(model, "head.slots") == ["head.slots"]
    model.train()
    assert model.encoder.training
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
    assert not model.heads["slots"].training


def test_all_frozen_trains_nothing_and_says_so(model, data, tokenizer, tmp_path, caplog):
    before = groups_of(model)
    trainer = train(model, data, tokenizer, tmp_path, "all")
    assert "Every group is frozen: nothing will be learned" in caplog.text
    assert trainer.evaluate(data["test"])["eval_loss"] > 0
    for name, weights in groups_of(model).items():
        assert all(torch.equal(value, before[name][key]) for key, value in weights.items())


def test_a_trainer_leaves_what_the_caller_froze(model, data, tokenizer, tmp_path):
    freeze(model, "encoder")
    before = groups_of(model)["encoder"]
    train(model, data, tokenizer, tmp_path, None)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_selectors(model):
    assert select_groups(model, "all") == ["encoder", "head.intent", "head.slots"]
    assert select_groups(model, "none") == []
    assert select_groups(model, ["heads"]) == ["head.intent", "head.slots"]
    assert select_groups(model, ["head.slots", "encoder"]) == ["encoder", "head.slots"]


def test_an_unknown_group_is_refused_with_the_groups_there_are(model):
    with pytest.raises(ValueError, match=r"unknown group 'head.slot'. Did you mean 'head.slots'.*'head.intent'"):
        freeze(model, ["head.slot"])
