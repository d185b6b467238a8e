"""Several texts in one row of the encoder."""

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models import encoder_packing
from hf_multitask.models.encoder_packing import PACKED_TYPES, can_pack, fill_rows, pack_texts
from tests.models.many_encoders import save_any_encoder
from tests.tiny import save_tiny_encoder

INTENT = {"name": "intent", "type": "sequence_classification", "labels": ["a", "b", "c"]}
SLOTS = {"name": "slots", "type": "token_classification", "labels": ["O", "B-x", "I-x"]}
LENGTHS = [30, 3, 8, 5, 4, 12, 3, 6, 4]


def batch(lengths=LENGTHS, padding=1):
    """Return texts padded on the right; one has a token that is the padding's in its middle."""
    torch.manual_seed(0)
    ids = torch.randint(5, 300, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids[0, 3] = padding
    return {"input_ids": ids.where(mask == 1, padding), "attention_mask": mask}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {name: save_any_encoder(name, folder / name) for name in PACKED_TYPES}


def build(encoder, slots=None, **kwargs):
    torch.manual_seed(0)
    tasks = [TaskConfig(**INTENT), TaskConfig(**SLOTS, **(slots or {}))]
    return MultiTaskModel.from_encoder(encoder, tasks, pooling="mean", **kwargs).eval()


def rows_of_the_encoder(model):
    """Return a list that the shapes of the encoder's embeddings are added to."""
    shapes = []
    model.encoder.embeddings.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[:2])))
    return shapes


def assert_same_logits(model, inputs):
    shapes = rows_of_the_encoder(model)
    mask = inputs["attention_mask"].bool()
    inputs = {**inputs, "tag_positions": torch.where(mask, torch.arange(30), -1)}
    with torch.inference_mode():
        expected, found = model(**inputs).logits, model(**inputs, packed=True).logits
    assert shapes == [(9, 30), (2, 48)]
    for name, values in expected.items():
        rows = slice(None) if values.dim() == 2 else mask
        torch.testing.assert_close(found[name][rows], values[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", PACKED_TYPES)
def test_logits_are_those_of_padded_texts(encoders, model_type):
    model = build(encoders[model_type])
    assert can_pack(model.encoder)
    assert_same_logits(model, batch(padding=model.encoder.config.pad_token_id))


def test_texts_keep_their_segments(encoders):
    inputs = batch()
    inputs["token_type_ids"] = (torch.arange(30) > 2).long().expand(9, 30)
    assert_same_logits(build(encoders["bert"]), inputs)


@pytest.mark.parametrize("fields", [{"private_layers": 1}, {"mix_layers": True}, {"head": "lstm"}], ids=str)
def test_heads_that_read_other_states(encoders, fields):
    model = build(encoders["bert"], fields)
    with torch.no_grad():
        for module in model.private_layers.values():
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
    assert_same_logits(model, batch())


@pytest.mark.parametrize(
    ("fields", "entering"),
    [
        ({}, None),
        ({"private_layers": 1}, None),
        ({"mix_layers": True}, None),
        ({"head": "lstm"}, None),
        ({}, "encoder.1"),
        ({"private_layers": 1}, "encoder.1"),
    ],
    ids=str,
)
def test_losses_and_gradients_are_those_of_padded_texts(encoders, fields, entering):
    model, inputs = build(encoders["bert"], fields), batch()
    mask = inputs["attention_mask"].bool()
    positions = torch.where(mask, torch.arange(30), -1)
    labels = {"intent": torch.arange(9) % 3, "slots": torch.where(mask, inputs["input_ids"] % 3, -100)}
    inputs |= {"tag_positions": positions, "labels": labels}
    if entering is not None:
        with torch.no_grad():
            states = model.states_entering([entering], input_ids=inputs["input_ids"], attention_mask=mask.long())
        inputs |= {"stored_states": states[entering], "entering": entering}
    # A dropout of 0 draws nothing.
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    shapes = []
    model.partial_forward.layers[-1].register_forward_hook(lambda layer, args, out: shapes.append(args[0].shape[:2]))
    gradients, losses = [], []
    for packed in (False, True):
        model.zero_grad()
        loss = model(**inputs, packed=packed).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert shapes == [(9, 30), (2, 48)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    trained = [name for name, value in gradients[0].items() if value is not None]
    assert any(name.startswith("encoder.encoder.layer.1") for name in trained)
    assert [name for name, value in gradients[1].items() if value is not None] == trained
    for name in trained:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], rtol=1e-3, atol=1e-6)


def test_texts_do_not_see_each_other(encoders, monkeypatch):
    # The other tests would not notice if each text were computed among any others.
    model, inputs = build(encoders["bert"]), batch()
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][1] = torch.where(inputs["attention_mask"][1] == 1, 77, 1)
    with torch.inference_mode():
        before, after = (model(**texts, packed=True).logits["intent"] for texts in (inputs, changed))
    others = [i for i in range(9) if i != 1]
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[1], after[1], atol=1e-4)


def test_windows_of_long_texts(encoders):
    model, inputs = build(encoders["bert"]), batch()
    windows = torch.eye(5, dtype=torch.bool).repeat_interleave(torch.tensor([2, 1, 3, 1, 2]), dim=1)
    positions = torch.zeros(5, 1, dtype=torch.long)
    with torch.inference_mode():
        expected = model(**inputs, row_windows=windows, tag_positions=positions).logits
        found = model(**inputs, row_windows=windows, tag_positions=positions, packed=True).logits
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"attention_mask": torch.tensor([[0, 1, 1]] * 9)},  # padded on the left
        {"attention_mask": torch.tensor([[1, 0, 1]] * 9)},
        {"position_ids": torch.arange(3).expand(9, 3)},
        {"attention_mask": torch.ones(9, 3, dtype=torch.long)},  # no padding
    ],
    ids=["left", "gap", "positions", "full"],
)
def test_batches_that_are_not_packed(encoders, change):
    model = build(encoders["bert"])
    inputs = {"input_ids": torch.full((9, 3), 7), "attention_mask": torch.tensor([[1, 0, 0]] * 9), **change}
    assert pack_texts(model.encoder, inputs) is None


def test_models_that_are_not_packed(encoders, tmp_path):
    model, inputs = build(encoders["bert"]), batch()
    assert not can_pack(build(encoders["bert"], attn_implementation="eager").encoder)
    assert not can_pack(build(save_tiny_encoder("mpnet", tmp_path / "mpnet")).encoder)
    # What is asked for is that of the texts.
    assert model(**inputs, packed=True, output_hidden_states=True).hidden_states[-1].shape[:2] == (9, 30)


def test_rows_are_filled():
    assert fill_rows([3, 40, 10, 5, 33], 48) == [[1, 3, 0], [4, 2]]
    assert fill_rows([100, 60, 30], 48) == [[0], [1, 2]]
    assert fill_rows([], 48) == []
    rows = fill_rows(list(range(1, 49)), 48)
    assert sorted(i for row in rows for i in row) == list(range(48))
    assert all(sum(i + 1 for i in row) <= 48 for row in rows)


def test_few_tokens_less_are_not_worth_it(encoders, monkeypatch):
    encoder = build(encoders["bert"]).encoder
    assert pack_texts(encoder, batch([24, 24, 22, 20])) is None
    monkeypatch.setattr(encoder_packing, "WORTHWHILE_SHARE", 1)
    assert pack_texts(encoder, batch([24, 24, 22, 20])) is not None
