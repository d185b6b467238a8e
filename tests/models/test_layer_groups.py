"""Layer groups of every supported architecture."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models.encoder_layers import find_layers
from hf_multitask.models.layer_groups import LayerGroup, LayerGroups, layer_groups, layer_ranges
from tests.tiny import ARCHITECTURES

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
HEADS = ["head.intent", "head.slots"]
LAYERS = ["encoder.0", "encoder.1", "encoder.2"]
WITH_LAYERS = [name for name in ARCHITECTURES if name != "albert"]


@pytest.fixture(params=WITH_LAYERS)
def model(request, encoders):
    return MultiTaskModel.from_encoder(encoders[request.param], TASKS)


def names_in(model, group_name):
    (group,) = [group for group in model.layer_groups() if group.name == group_name]
    ids = {id(parameter) for parameter in group.parameters.values()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


def test_the_groups_are_a_partition_from_the_bottom_up(model):
    groups = model.layer_groups()
    norm = ["encoder.norm"] if model.encoder.config.model_type == "modernbert" else []
    assert [group.name for group in groups] == ["embeddings", *LAYERS, *norm, *HEADS]
    parameters = [id(parameter) for group in groups for parameter in group.parameters.values()]
    assert len(set(parameters)) == len(parameters)
    assert set(parameters) == {id(parameter) for parameter in model.parameters()}


def test_no_gradient_runs_below_the_lowest_group_that_trains(model):
    """The groups are in the order of computation: backward stops at the input of the lowest trainable group."""
    for i, layer in enumerate(find_layers(model.encoder)):
        for group in model.layer_groups():
            for parameter in group.parameters.values():
                parameter.requires_grad_(group.name not in ["embeddings", *LAYERS[:i]])
                parameter.grad = None
        inputs = []
        hook = layer.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
        model.eval()(input_ids=torch.tensor([[0, 7, 9, 8, 2]])).logits["slots"].sum().backward()
        hook.remove()
        assert not inputs[0].requires_grad
        assert all(parameter.grad is not None for parameter in model.layer_groups()[i + 1].parameters.values())


@pytest.mark.parametrize(
    ("architecture", "group", "expected"),
    [
        ("mpnet", "embeddings", "encoder.encoder.relative_attention_bias.weight"),
        ("deberta-v2", "embeddings", "encoder.encoder.rel_embeddings.weight"),
        ("electra", "embeddings", "encoder.embeddings_project.weight"),
        ("modernbert", "encoder.norm", "encoder.final_norm.weight"),
        ("distilbert", "encoder.1", "encoder.transformer.layer.1.ffn.lin1.weight"),
        ("bert", "head.slots", "heads.slots.classifier.bias"),
    ],
)
def test_what_lies_outside_the_layers(architecture, group, expected, encoders):
    assert expected in names_in(MultiTaskModel.from_encoder(encoders[architecture], TASKS), group)


def test_shared_layers_are_one_group(encoders):
    groups = MultiTaskModel.from_encoder(encoders["albert"], TASKS).layer_groups()
    assert [group.name for group in groups] == ["encoder", *HEADS]
    assert groups.select("encoder") == ["encoder"]
    for selector in ("embeddings", "encoder.1", "encoder[-2:]"):
        with pytest.raises(ValueError, match=r"share weights or do not run .* cannot be frozen one by one"):
            groups.select(selector)


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ("none", []),
        ("all", ["embeddings", *LAYERS, *HEADS]),
        ("heads", HEADS),
        ("encoder", ["embeddings", *LAYERS]),
        ("embeddings", ["embeddings"]),
        ("encoder[-2:]", LAYERS[1:]),
        ("encoder[:1]", LAYERS[:1]),
        ("encoder[1:9]", LAYERS[1:]),
        (["head.slots", "encoder.0", "encoder[:2]"], [*LAYERS[:2], "head.slots"]),
    ],
)
def test_selectors(selectors, expected, encoders):
    assert MultiTaskModel.from_encoder(encoders["bert"], TASKS).layer_groups().select(selectors) == expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("encoder[5:]", r"selects none of the 3 layers"),
        ("encoder.3", r"unknown group 'encoder.3'. Did you mean 'encoder.\d'"),
        ("head.slot", r"unknown group 'head.slot'. Did you mean 'head.slots'"),
        (3, r"unknown group 3"),
    ],
)
def test_wrong_selectors_are_refused(selector, message, encoders):
    with pytest.raises(ValueError, match=message):
        MultiTaskModel.from_encoder(encoders["bert"], TASKS).layer_groups().select([selector])


def test_the_groups_print_as_a_table(encoders):
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS)
    model.encoder.embeddings.requires_grad_(False)
    lines = str(model.layer_groups()).splitlines()
    assert lines[0].split() == ["group", "parameters", "share", "trainable"]
    count = sum(parameter.numel() for parameter in model.encoder.embeddings.parameters())
    share = count / model.num_parameters()
    assert lines[1].split() == ["embeddings", f"{count:,}", f"{share:.1%}", "no"]
    assert lines[-1].split()[0] == "head.slots"
    assert lines[-1].split()[-1] == "yes"


def test_looking_at_the_groups_changes_nothing(model):
    model.train()
    model.encoder.embeddings.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    model.layer_groups()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_head_without_weights_remains_a_group(encoders):
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS)
    groups = LayerGroups([*model.layer_groups(), LayerGroup("head.x", {})])
    assert groups.divide([])[-1].name == groups.divide(["*.bias"])[-1].name == "head.x"


@pytest.mark.parametrize("of_transformers", [True, False])
def test_a_model_that_is_no_encoder_is_refused(of_transformers):
    size = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 20}
    model = T5ForConditionalGeneration(T5Config(**size)) if of_transformers else torch.nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match=f"expected a transformers model with one encoder, found {type(model).__name__}"
    ):
        layer_groups(model)


@pytest.mark.parametrize(
    ("names", "ranges"),
    [
        (["encoder.2"], ["encoder.2"]),
        (["embeddings", "encoder.0", "encoder.1", "head.intent"], ["embeddings", "encoder.0-1", "head.intent"]),
        (["encoder.0", "encoder.2", "encoder.3"], ["encoder.0", "encoder.2-3"]),
        (["encoder.0", "lora.0", "encoder.1", "lora.1"], ["encoder.0-1", "lora.0-1"]),
        (["encoder.0", "encoder.norm", "encoder.1"], ["encoder.0", "encoder.norm", "encoder.1"]),
        (["encoder.0:*.bias", "encoder.1:*.bias", "encoder.1"], ["encoder.0-1:*.bias", "encoder.1"]),
        ([], []),
    ],
    ids=str,
)
def test_consecutive_layers_are_named_together(names, ranges):
    assert layer_ranges(names) == ranges


def test_groups_of_another_model_are_refused(encoders):
    groups = MultiTaskModel.from_encoder(encoders["bert"], TASKS).layer_groups()
    with pytest.raises(ValueError, match=r"the model has no weight 'heads\.slots\..*' now; found encoder\."):
        groups.bind(MultiTaskModel.from_encoder(encoders["bert"], TASKS[:1]))
