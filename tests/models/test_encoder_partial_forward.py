"""A partial forward pass gives the same bits and does not run the other layers."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models.encoder_partial_forward import HEADS, PartialForward, lowest_trained
from tests.tiny import ARCHITECTURES, SENTENCES, SIZE, make_tokenizer

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
STARTS = ["encoder.1", "encoder.2", "encoder.norm", HEADS]


def starts_of(architecture):
    return [HEADS] if architecture == "albert" else STARTS


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture
def model(encoders, architecture):
    return MultiTaskModel.from_encoder(encoders[architecture], TASKS).eval()


@pytest.fixture
def batch(architecture):
    encoded = make_tokenizer(ARCHITECTURES[architecture][0])(SENTENCES, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def overwrite_below(model, entering):
    """Set the weights that compute the states to NaN, except those shared with the layers above."""
    used_above = {"relative_attention_bias", "rel_embeddings", "encoder.LayerNorm"}
    for group in model.layer_groups():
        if group.name == entering or group.is_head:
            return
        for name, weight in group.parameters.items():
            if not any(part in name for part in used_above):
                weight.data.fill_(torch.nan)


@torch.no_grad()
def test_logits_are_the_same_bits_and_what_is_below_is_not_run(model, batch, architecture):
    expected = model(**batch).logits
    for entering in starts_of(architecture):
        states = model.states_entering([entering], **batch)[entering]
        partial = MultiTaskModel(model.config).eval()
        partial.load_state_dict(model.state_dict())
        overwrite_below(partial, entering)
        assert partial(**batch).logits["intent"].isnan().all()
        found = partial(**batch, stored_states=states, entering=entering).logits
        for task, logits in found.items():
            assert torch.equal(logits, expected[task]), entering


def test_gradients_above_are_the_same_bits(model, batch, architecture):
    labels = {"intent": torch.tensor([0, 1] * 4), "slots": torch.ones_like(batch["input_ids"])}
    for entering in starts_of(architecture):
        gradients = []
        states = model.states_entering([entering], **batch)[entering].detach()
        for stored in ({}, {"stored_states": states, "entering": entering}):
            model.zero_grad()
            model(**batch, **stored, labels=labels).loss.backward()
            below = True
            kept = {}
            for group in model.layer_groups():
                below = below and group.name != entering and not group.is_head
                for name, weight in group.parameters.items():
                    if not below:
                        kept[name] = weight.grad
            gradients.append(kept)
        assert gradients[0]
        for name, gradient in gradients[0].items():
            assert torch.equal(gradient, gradients[1][name]), (entering, name)


@torch.no_grad()
def test_all_states_of_one_pass_are_those_of_a_pass_each(model, batch, architecture):
    starts = starts_of(architecture)
    together = model.states_entering(starts, **batch)
    assert set(together) == set(starts)
    for i, entering in enumerate(starts):
        assert torch.equal(model.states_entering([entering], **batch)[entering], together[entering])
        for higher in starts[i + 1 :]:
            onwards = model.states_entering([higher], stored_states=together[entering], entering=entering, **batch)
            assert torch.equal(onwards[higher], together[higher])


@torch.no_grad()
def test_layers_above_are_not_run(encoders):
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS).eval()
    batch = {"input_ids": torch.ones(2, 4, dtype=torch.long)}
    expected = model.states_entering(["encoder.2"], **batch)["encoder.2"]
    for weight in model.encoder.encoder.layer[2].parameters():
        weight.fill_(torch.nan)
    assert torch.equal(model.states_entering(["encoder.2"], **batch)["encoder.2"], expected)


@torch.no_grad()
def test_a_convolution_beside_the_first_layer_has_its_embeddings():
    config = AutoConfig.for_model("deberta-v2", **SIZE, conv_kernel_size=3, conv_act="gelu", relative_attention=True)
    encoder = AutoModel.from_config(config).eval()
    batch = {"input_ids": torch.arange(12).view(2, 6) + 5, "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    expected = encoder(**batch).last_hidden_state
    partial = PartialForward(encoder)
    for entering, states in partial.states_entering(STARTS[:3], batch).items():
        assert torch.equal(partial.forward_from(states, entering, batch).last_hidden_state, expected), entering


@torch.no_grad()
def test_a_model_is_as_it_was_behind_a_partial_pass(model, batch, architecture):
    before = [dict(vars(module)) for module in model.encoder.modules()]
    for entering in starts_of(architecture):
        states = model.states_entering([entering], **batch)[entering]
        model(**batch, stored_states=states, entering=entering)
    for module, attributes in zip(model.encoder.modules(), before, strict=True):
        assert vars(module).keys() == attributes.keys()
        assert len(module._forward_hooks) == len(attributes["_forward_hooks"])


def test_an_error_inside_leaves_the_layers_as_they_were(encoders):
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS).eval()
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        model(
            input_ids=torch.ones(2, 4, dtype=torch.long),
            stored_states=torch.zeros(2, 5, 7),
            entering="encoder.1",
        )
    assert all("forward" not in vars(layer) for layer in model.encoder.encoder.layer)


def test_states_cannot_enter_where_there_is_no_boundary(encoders):
    batch = {"input_ids": torch.ones(1, 3, dtype=torch.long)}
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS)
    with pytest.raises(
        ValueError, match=r"unknown group 'encoder.7'.*'encoder.1', 'encoder.2', 'encoder.norm', 'heads'"
    ):
        model.states_entering(["encoder.7"], **batch)
    with pytest.raises(ValueError, match="unknown group 'embeddings'"):
        model(**batch, stored_states=torch.zeros(1, 3, 16), entering="embeddings")
    shared = MultiTaskModel.from_encoder(encoders["albert"], TASKS)
    with pytest.raises(ValueError, match=r"unknown group 'encoder.1'. Allowed: 'heads'"):
        shared.states_entering(["encoder.1"], **batch)


def test_the_lowest_group_that_trains():
    groups = ["embeddings", "encoder.0", "encoder.1", "encoder.norm", "head.a", "head.encoder"]
    assert lowest_trained(groups, ["head.a", "encoder.norm", "encoder.1"]) == "encoder.1"
    assert lowest_trained(groups, ["encoder.norm", "head.a"]) == "encoder.norm"
    assert lowest_trained(groups, ["head.a", "head.encoder"]) == HEADS
    assert lowest_trained(groups, groups) == "embeddings"
    assert lowest_trained(["encoder", "head.a"], ["encoder"]) == "encoder"
