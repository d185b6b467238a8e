"""Precision of a run: the log about it, and bfloat16 learning the same as float32."""

import copy
import logging
from pathlib import Path

import pytest
import torch

from hf_multitask.runtime import precision
from hf_multitask.runtime.precision import has_native_bf16, log_precision
from tests.trainers import make_trainer

CPU = torch.device("cpu")


@pytest.fixture
def said(model, data, tokenizer, tmp_path, monkeypatch, caplog):
    """Return a function that starts a training and returns the log about its precision."""

    def train(is_native, **arguments):
        monkeypatch.setattr(precision, "has_native_bf16", lambda device: is_native)
        with caplog.at_level(logging.INFO, logger="hf_multitask"):
            make_trainer(model, data, tokenizer, tmp_path, None, max_steps=1, use_cpu=True, **arguments).train()
        return [(line.levelname, line.getMessage()) for line in caplog.records if line.name == precision.__name__]

    return train


@pytest.mark.parametrize(
    ("is_native", "hint"), [(True, "; this cpu has bfloat16: bf16=true with use_cpu=true"), (False, "")]
)
def test_bfloat16_is_offered_where_the_processor_has_it(is_native, hint, said):
    ((level, line),) = said(is_native)
    assert level == "INFO"
    assert line.startswith(f"Precision on cpu: float32{hint}")
    assert ("bf16" in line) == is_native


def test_bfloat16_that_the_processor_has_is_said_and_not_warned_of(said):
    assert said(True, bf16=True) == [
        ("INFO", "Precision on cpu: bfloat16 where autocast allows it, weights in float32.")
    ]


def test_emulated_bfloat16_is_warned_of(said):
    (_, first), (level, line) = said(False, bf16=True)
    assert "bfloat16" in first
    assert level == "WARNING"
    assert "emulates it" in line


def test_weights_in_bfloat16_are_warned_of_too(said, model):
    model.bfloat16()
    (_, first), (level, _) = said(False)
    assert first == "Precision on cpu: bfloat16."
    assert level == "WARNING"


def test_a_gpu_is_offered_bfloat16_without_use_cpu(monkeypatch, caplog):
    class Arguments:
        bf16 = fp16 = False
        device = torch.device("cuda", 0)

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    with caplog.at_level(logging.INFO, logger="hf_multitask"):
        log_precision(Arguments(), torch.float32)
    assert caplog.messages == ["Precision on cuda: float32; this cuda has bfloat16: bf16=true computes in it."]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
        ({}, False),
    ],
    ids=str,
)
def test_capabilities_of_processors(found, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert has_native_bf16(CPU) is expected


@pytest.mark.parametrize("supported", [True, False])
def test_capabilities_as_an_older_torch_tells_them(supported, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert has_native_bf16(CPU) is supported


def test_what_is_asked_of_torch_is_what_this_processor_says():
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), None)
    if flags is None:
        pytest.skip("this machine does not tell its processor's capabilities")
    assert has_native_bf16(CPU) == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))


def test_bfloat16_learns_what_float32_does(model, data, tokenizer, tmp_path):
    losses = {}
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for bf16 in (False, True):
        trainer = make_trainer(
            copy.deepcopy(model),
            data,
            tokenizer,
            tmp_path,
            {"stages": [{"train": "heads", "steps": 10}, {"name": "all"}]},
            max_steps=30,
            learning_rate=3e-3,
            logging_steps=1,
            use_cpu=True,
            bf16=bf16,
        )
        trainer.train()
        assert all(weight.dtype == torch.float32 for weight in trainer.model.parameters())
        losses[bf16] = torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    # Eight bits of mantissa.
    assert torch.allclose(losses[True], losses[False], rtol=0.05)
    assert not torch.equal(losses[True], losses[False])
    assert losses[True][-5:].mean() < 0.7 * losses[True][:5].mean()
