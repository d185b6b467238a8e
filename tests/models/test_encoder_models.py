"""Encoders of many architectures are supported in full, or refused by name and reason."""

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.encoder_loading import load_config, max_positions
from hf_multitask.models.encoder_models import CHECKED_TYPES, check_encoder, check_encoder_type
from hf_multitask.models.encoder_partial_forward import HEADS
from hf_multitask.models.loading import load_model
from tests.models.many_encoders import save_any_encoder
from tests.tiny import SENTENCES

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
LAYERS = [f"encoder.{i}" for i in range(3)]
# Their layers share weights, do not run one after the other, or are not called as modules (SqueezeBERT).
WITHOUT_LAYERS = ["albert", "flaubert", "squeezebert", "xlm"]
# Their layers read more than the states of the layer below.
CANNOT_START = ["longt5", "mt5", "pegasus_x", "t5"]
REFUSED = {
    "bros": "it fails on a batch of token ids .*bbox",
    "convbert": "the states of a text depend on the rest of its batch",
    "dpr": "it returns no states of the tokens",
    "fnet": "the states of a text depend on the rest of its batch",
    "fsmt": "its encoder is not a model of its own",
    "lxmert": "its config has no num_hidden_layers",
    "nystromformer": "the states of a text depend on the rest of its batch",
    "perceiver": "it reads inputs, not the tokens of a text",
    "udop": "it fails on a batch of token ids",
    "vit": "it reads pixel_values, not the tokens of a text",
    "yoso": "the states of a text depend on the rest of its batch",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of a tiny model of a type; it is written once."""
    folder, made = tmp_path_factory.mktemp("many"), {}

    def folder_of(model_type):
        if model_type not in made:
            made[model_type] = save_any_encoder(model_type, folder / model_type)
        return made[model_type]

    return folder_of


def batch_of(tokenizer):
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture(scope="module", params=sorted(CHECKED_TYPES))
def model_type(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(model_type, folders):
    folder = folders(model_type)
    check_encoder_type(model_type, load_config(str(folder)))
    model = MultiTaskModel.from_encoder(folder, TASKS).eval()
    check_encoder(model_type, model.encoder, model.encoder.config)
    return model, batch_of(load_tokenizer(folder))


def test_a_saved_model_has_the_same_logits(loaded, model_type, folders, tmp_path):
    model, batch = loaded
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    load_tokenizer(folders(model_type)).save_pretrained(tmp_path)
    again, _ = load_model(tmp_path)
    for name, logits in again(**batch).logits.items():
        assert torch.equal(logits, expected[name])


def test_no_weight_below_the_lowest_trained_group_has_a_gradient(loaded, model_type):
    model, batch = loaded
    groups = model.layer_groups()
    names = [group.name for group in groups if not group.is_head]
    assert names[-1:] == ["encoder"] if model_type in WITHOUT_LAYERS else names[:4] == ["embeddings", *LAYERS]
    assert {id(weight) for group in groups for weight in group.parameters.values()} == set(map(id, model.parameters()))
    for lowest in range(len(names)):
        for i, group in enumerate(groups):
            for weight in group.parameters.values():
                weight.requires_grad_(i >= lowest)
                weight.grad = None
        logits = model(**batch).logits
        (logits["slots"].sum() + logits["intent"].square().sum()).backward()
        below = {name: weight for group in groups[:lowest] for name, weight in group.parameters.items()}
        assert not [name for name, weight in below.items() if weight.grad is not None]
        assert any(weight.grad is not None for weight in groups[lowest].parameters.values()), names[lowest]


def test_layers_run_from_stored_states_or_not_at_all(loaded, model_type):
    model, batch = loaded
    expected = model(**batch).logits
    can_start = model_type not in (*WITHOUT_LAYERS, *CANNOT_START)
    for entering in [*(["encoder.1", "encoder.2", "encoder.norm"] if can_start else []), HEADS]:
        states = model.states_entering([entering], **batch)[entering]
        for name, logits in model(**batch, stored_states=states, entering=entering).logits.items():
            assert torch.equal(logits, expected[name]), entering
    if not can_start:
        with pytest.raises(ValueError, match="entering: "):
            model.states_entering(["encoder.1"], **batch)


def test_a_text_has_the_same_logits_alone(loaded):
    model, batch = loaded
    expected = model(**batch).logits
    for i, mask in enumerate(batch["attention_mask"]):
        alone = {name: values[i : i + 1, : mask.sum()] for name, values in batch.items()}
        found = model(**alone).logits
        assert torch.allclose(found["intent"][0], expected["intent"][i], atol=1e-5)
        assert torch.allclose(found["slots"][0], expected["slots"][i, : mask.sum()], atol=1e-5)


def test_the_longest_row_is_the_encoders(loaded):
    model, _ = loaded
    limit = max_positions(model.config)
    ids = torch.full((1, limit or 99), 7)
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits["intent"].isfinite().all()


@pytest.mark.parametrize("model_type", REFUSED)
def test_other_encoders_are_refused_by_name_and_reason(model_type, folders):
    with pytest.raises(ValueError, match=f"an encoder of type '{model_type}' cannot be used: {REFUSED[model_type]}"):
        MultiTaskModel.from_encoder(folders(model_type), TASKS)
