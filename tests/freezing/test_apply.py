"""Static freezing: frozen weights stay, the others move."""

import copy
import io
import pickle

import pytest
import torch

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, freeze
from hf_multitask.models.encoder_layers import find_layers
from tests.tiny import ARCHITECTURES
from tests.trainers import make_trainer

COMBINATIONS = [
    ["encoder"],
    ["head.intent"],
    ["head.slots"],
    ["heads"],
    ["encoder", "head.intent"],
    ["encoder", "head.slots"],
    ["embeddings", "encoder[:2]", "head.intent"],
    ["encoder.1"],
    [],
]
OPTIMIZERS = [
    {"optim": "adamw_torch_fused", "weight_decay": 0.1},
    {"optim": "sgd", "optim_args": "momentum=0.9", "weight_decay": 0.1},
    {"optim": "adafactor", "max_grad_norm": 0.0},
]


def train(model, data, tokenizer, folder, frozen, **arguments):
    defaults = {"per_device_train_batch_size": 2, "max_steps": 3, "learning_rate": 1e-2}
    trainer = make_trainer(model, data, tokenizer, folder, frozen, **defaults, **arguments)
    trainer.train()
    return trainer


@pytest.fixture
def batch_of(data, tokenizer):
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    return collator([data["train"][i] for i in range(4)])


def groups_of(model):
    return {
        group.name: [weight.detach().clone() for weight in group.parameters.values()] for group in model.layer_groups()
    }


@pytest.mark.parametrize("frozen", COMBINATIONS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda arguments: arguments["optim"])
def test_frozen_weights_are_bit_equal_and_the_others_have_moved(model, data, tokenizer, tmp_path, frozen, optimizer):
    before = groups_of(model)
    train(model, data, tokenizer, tmp_path, frozen, gradient_accumulation_steps=2, **optimizer)
    frozen_groups = model.layer_groups().select(frozen)
    for name, weights in groups_of(model).items():
        for i, (weight, old) in enumerate(zip(weights, before[name], strict=True)):
            assert torch.equal(weight, old) == (name in frozen_groups), f"weight {i} of {name}"


def test_a_frozen_group_has_no_gradient_no_optimizer_state_and_no_dropout(model, data, tokenizer, tmp_path):
    freeze(model, ["encoder", "head.intent"])
    trainer = train(model, data, tokenizer, tmp_path, None)
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    in_state = {id(parameter) for parameter in trainer.optimizer.state}
    assert in_state == {id(parameter) for parameter in model.heads["slots"].parameters()}
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert not any(module.training for module in model.heads["intent"].modules())
    assert model.heads["slots"].training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_encoder_has_no_dropout_on_any_architecture(architecture, encoders, data):
    model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
    freeze(model, "encoder")
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert all(module.training for module in model.heads.modules())
    freeze(model, "heads")
    model.train()
    assert all(module.training for module in model.encoder.modules())
    assert not any(module.training for module in model.heads.modules())


def test_dropout_of_frozen_layers_alone_is_off(model):
    freeze(model, ["embeddings", "encoder.0"])
    model.train()
    layers = find_layers(model.encoder)
    assert not any(module.training for module in (*layers[0].modules(), *model.encoder.embeddings.modules()))
    assert all(module.training for module in layers[1].modules())


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
    assert freeze(model, ["head.intent", "encoder[1:]"]) == ["encoder.1", "encoder.2", "head.intent"]
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
        assert all(torch.equal(weight, old) for weight, old in zip(weights, before[name], strict=True))


def test_a_trainer_leaves_what_the_caller_froze(model, data, tokenizer, tmp_path):
    freeze(model, "encoder")
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    train(model, data, tokenizer, tmp_path, None)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_an_unknown_group_is_refused_with_the_groups_there_are(model):
    with pytest.raises(ValueError, match=r"unknown group 'head.slot'. Did you mean 'head.slots'.*'head.intent'"):
        freeze(model, ["head.slot"])


def test_gradients_of_earlier_steps_move_nothing_that_is_frozen(model, batch_of):
    model.train()
    model(**batch_of).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    before = groups_of(model)
    freeze(model, ["embeddings", "head.intent"])
    # Plain SGD moves each weight that has a gradient, also one that requires none.
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for name, weights in groups_of(model).items():
        assert all(torch.equal(*pair) for pair in zip(weights, before[name], strict=True)), name
        assert all(weight.grad is None for weight in model.parameters())


def test_modules_without_weights_follow_what_contains_them(model):
    def dropouts(of):
        return [module for module in of.modules() if isinstance(module, torch.nn.Dropout)]

    embeddings, layers = model.encoder.embeddings, find_layers(model.encoder)
    model.encoder.outside = torch.nn.Dropout(0.1)
    model.train()
    freeze(model, "embeddings")
    assert not any(module.training for module in dropouts(embeddings))
    assert all(module.training for layer in layers for module in dropouts(layer))
    assert not model.encoder.outside.training
    freeze(model, ["encoder.1", "head.intent"])
    assert [any(module.training for module in dropouts(layer)) for layer in layers] == [True, False, True]
    assert all(module.training for module in dropouts(embeddings))
    assert model.encoder.outside.training


@pytest.mark.parametrize("way", ["pickle", "torch.save", "deepcopy"])
def test_a_frozen_model_is_copied_with_what_is_frozen(way, model):
    freeze(model, ["embeddings", "head.intent"])
    model.train()
    if way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif way == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = copy.deepcopy(model)
    model.encoder.embeddings.training = True  # the copy has its own modules
    other.train()
    assert not other.encoder.embeddings.training
    assert not other.heads["intent"].training
    assert other.heads["slots"].training
    assert [weight.requires_grad for weight in other.parameters()] == [
        weight.requires_grad for weight in model.parameters()
    ]
    freeze(other, "none")
    assert all(module.training for module in other.modules())
