"""Logits, losses and gradients on a device against those of the CPU in float32, within stated bounds."""

import copy

import pytest
import torch

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, TaskConfig, freeze, load_tokenizer, prepare_datasets
from hf_multitask.models.decoding import decode, log_tag_probabilities
from tests.gpu.devices import losses, to_device, train
from tests.tiny import ROWS
from tests.trainers import without_dropout

pytestmark = pytest.mark.gpu

# Largest difference of a logit or loss, and of all gradients relative to their norm.
BOUNDS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (3e-2, 5e-2), torch.float16: (5e-3, 1e-2)}
# Keeps the small gradients of float16 from vanishing, as the gradient scaler does.
SCALE = 2.0**8
HEADS = {
    "linear": {},
    "lstm": {"head": "lstm"},
    "crf": {"crf": True},
    "lstm and crf": {"head": "lstm", "crf": True},
    "mixed layers": {"mix_layers": True},
}


def prepare(tokenizer, **slots):
    tasks = [
        TaskConfig("intent", "sequence_classification", class_weights="balanced"),
        TaskConfig("slots", "token_classification", **slots),
    ]
    return prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)


def build(encoder, data):
    """Return a model without dropout, whose heads are scaled so that they say something."""
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=0.5)
    for crf in model.crfs.values():
        for weight in crf.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model


def batch_of(data, tokenizer, size=8):
    return MultiTaskDataCollator(tokenizer, data.tasks)([data["train"][i] for i in range(size)])


def compute(model, batch, device, dtype):
    """Return loss, logits and gradients, on the CPU, of a pass on a device under autocast."""
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("float16 is for GPUs: a CPU lacks some of its operations")
    model = copy.deepcopy(model).to(device)
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        output = model(**to_device(batch, device))
    (output.loss * SCALE).backward()
    gradients = {
        name: weight.grad.float().cpu() / SCALE for name, weight in model.named_parameters() if weight.grad is not None
    }
    return output.loss.float().cpu(), {name: value.float().cpu() for name, value in output.logits.items()}, gradients


def assert_close(found, expected, dtype):
    of_values, of_gradients = BOUNDS[dtype]
    assert torch.allclose(found[0], expected[0], atol=of_values, rtol=of_values)
    for name, logits in expected[1].items():
        assert torch.allclose(found[1][name], logits, atol=of_values, rtol=of_values), name
    assert found[2].keys() == expected[2].keys()
    difference = torch.cat([(found[2][name] - value).flatten() for name, value in expected[2].items()]).norm()
    norm = torch.cat([value.flatten() for value in expected[2].values()]).norm()
    assert norm > 0
    assert difference <= of_gradients * norm


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "deberta-v2"])
def test_a_device_computes_what_the_cpu_computes(architecture, dtype, device, encoders):
    tokenizer = load_tokenizer(encoders[architecture])
    data = prepare(tokenizer)
    model, batch = build(encoders[architecture], data).train(), batch_of(data, tokenizer)
    expected = compute(model, batch, "cpu", torch.float32)
    assert_close(compute(model, batch, device, dtype), expected, dtype)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_heads_on_a_device(head, dtype, device, encoder, tokenizer):
    data = prepare(tokenizer, **HEADS[head])
    model, batch = build(encoder, data).train(), batch_of(data, tokenizer)
    expected = compute(model, batch, "cpu", torch.float32)
    assert_close(compute(model, batch, device, dtype), expected, dtype)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_a_frozen_head_passes_gradients_to_the_encoder(head, dtype, device, encoder, tokenizer):
    # In eval mode, in which cuDNN has no backward pass for an LSTM.
    data = prepare(tokenizer, **HEADS[head])
    model, batch = build(encoder, data).train(), batch_of(data, tokenizer)
    freeze(model, "heads")
    assert not model.heads["slots"].training
    expected = compute(model, batch, "cpu", torch.float32)
    assert all(name.startswith("encoder.") for name in expected[2])
    assert_close(compute(model, batch, device, dtype), expected, dtype)


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_a_frozen_lstm_does_not_depend_on_the_precision_of_float32(precision, device, encoder, tokenizer):
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch.backends.fp32_precision is new in torch 2.9")
    data = prepare(tokenizer, head="lstm")
    model, batch = build(encoder, data).train(), batch_of(data, tokenizer)
    freeze(model, "heads")
    torch.backends.fp32_precision = precision
    _, _, gradients = compute(model, batch, device, torch.float32)
    assert gradients
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    "slots", [{"constrained_decoding": True}, {"crf": True}, {"crf": True, "head": "lstm"}], ids=str
)
@torch.no_grad()
def test_tags_are_decoded_on_a_device(slots, device, encoder, tokenizer):
    data = prepare(tokenizer, **slots)
    model, batch = build(encoder, data).eval(), batch_of(data, tokenizer, 22)
    task = model.config.tasks[1]
    found = []
    for place in ("cpu", device):
        model.to(place)
        on_device = to_device(batch, place)
        logits, positions = model(**on_device).logits["slots"], on_device["tag_positions"]
        crf = model.crfs.get("slots")
        ids = decode(task, logits, positions, crf)
        probabilities = log_tag_probabilities(task, logits, positions, crf)
        assert ids.device.type == probabilities.device.type == place
        found.append((ids.cpu(), probabilities.cpu()[batch["tag_positions"] >= 0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_windows_of_long_texts_on_a_device(device, encoder, tokenizer):
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks, max_length=8, overlap=2)
    model, batch = build(encoder, data).train(), batch_of(data, tokenizer)
    assert "row_windows" in batch
    expected = compute(model, batch, "cpu", torch.float32)
    assert_close(compute(model, batch, device, torch.float32), expected, torch.float32)


STAGES = {
    "stages": [
        {"train": "heads", "steps": 3},
        {"train": ["encoder[-1:]", "heads"], "steps": 3},
        {"train": "encoder", "steps": 3},
        {"train": "all"},
    ]
}


@pytest.mark.parametrize("head", ["linear", "lstm and crf"])
def test_a_training_in_stages_has_the_losses_of_the_cpu(head, device, encoder, tokenizer, tmp_path):
    data = prepare(tokenizer, **HEADS[head])
    runs = [
        losses(train(place, encoder, data, tokenizer, tmp_path / place, STAGES, max_steps=12))
        for place in ("cpu", device)
    ]
    assert len(runs[0]) == 12
    assert torch.allclose(runs[0], runs[1], atol=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_training_in_half_precision_is_near_that_of_float32(precision, device, encoder, tokenizer, tmp_path):
    if device == "cpu" and precision == "fp16":
        pytest.skip("the Trainer has fp16 on a GPU only")
    data = prepare(tokenizer)
    full, half = (
        losses(train(device, encoder, data, tokenizer, tmp_path / str(len(given)), STAGES, max_steps=12, **given))
        for given in ({}, {precision: True})
    )
    assert half.isfinite().all()
    assert not torch.equal(full, half)
    # The scaler of fp16 may skip a step, after which the losses are those of one step before.
    assert torch.allclose(full, half, atol=0.15 if precision == "fp16" else 0.05)
