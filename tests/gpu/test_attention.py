"""Attention on a device: padding changes no logits, and flash attention leaves it out."""

import pytest
import torch
from transformers.utils import is_flash_attn_2_available

from hf_multitask import MultiTaskModel, load_tokenizer
from hf_multitask.models import encoder_attention
from tests.gpu.devices import NEEDS_CUDA, losses, train
from tests.models.test_encoder_attention import TASKS, alone_and_together
from tests.tiny import ARCHITECTURES

pytestmark = pytest.mark.gpu

NEEDS_FLASH = pytest.mark.skipif(
    not torch.cuda.is_available() or not is_flash_attn_2_available(),
    reason="transformers leaves padding out with flash attention alone, which needs a CUDA device and flash-attn",
)
# Flash attention takes heads whose size is a multiple of 8: the tiny encoders have heads of 8.
FLASH = ["bert", "modernbert"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_row_alone_has_the_logits_that_it_has_in_a_padded_batch(architecture, attention, device, encoders):
    try:
        model = MultiTaskModel.from_encoder(encoders[architecture], TASKS, attn_implementation=attention)
    except ValueError as error:
        pytest.skip(f"{architecture}: {error}")
    model = model.to(device).eval()
    for alone, together in alone_and_together(model, load_tokenizer(encoders[architecture]), device):
        assert together.device.type == device
        assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_masks_that_are_built_without_waiting_change_no_logits(architecture, device, encoders, monkeypatch):
    model = MultiTaskModel.from_encoder(encoders[architecture], TASKS).to(device).eval()
    tokenizer = load_tokenizer(encoders[architecture])
    batch = tokenizer(["play some music", "weather", "a table for two"], padding=True, return_tensors="pt").to(device)
    found = []
    for host in ((), ("cpu", "cuda")):
        monkeypatch.setattr(encoder_attention, "HOST", host)
        found.append(model(**batch).logits)
    for name, expected in found[1].items():
        assert torch.allclose(found[0][name], expected, atol=1e-6)


@NEEDS_CUDA
@torch.no_grad()
def test_the_kernels_of_sdpa_agree(encoder):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model = MultiTaskModel.from_encoder(encoder, TASKS).to("cuda", torch.bfloat16).eval()
    found = []
    for kernel in (SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION):
        with sdpa_kernel(kernel):
            found.append([pair[1].float() for pair in alone_and_together(model, load_tokenizer(encoder), "cuda")])
    for math, efficient in zip(*found, strict=True):
        assert torch.allclose(math, efficient, atol=2e-2)


@NEEDS_FLASH
@pytest.mark.parametrize("architecture", FLASH)
@torch.no_grad()
def test_attention_without_padding_equals_attention_with_padding(architecture, encoders):
    tokenizer = load_tokenizer(encoders[architecture])
    results = []
    for name in ("sdpa", "flash_attention_2"):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoders[architecture], TASKS, attn_implementation=name)
        # Flash attention has no float32.
        model = model.to("cuda", torch.bfloat16).eval()
        results.append([pair[1].float() for pair in alone_and_together(model, tokenizer, "cuda")])
    for padded, unpadded in zip(*results, strict=True):
        assert torch.allclose(padded, unpadded, atol=2e-2)


@NEEDS_FLASH
@pytest.mark.parametrize("given", [{}, {"store_frozen": "always"}], ids=str)
def test_stages_train_with_flash_attention(given, encoder, data, tokenizer, tmp_path):
    schedule = {
        "stages": [{"train": "heads", "steps": 4}, {"freeze": "head.intent"}],
        "protect": {"intent": {"distill": 1.0}},
    }
    runs = []
    for name in ("sdpa", "flash_attention_2"):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks, attn_implementation=name)
        folder = tmp_path / name
        arguments = {"bf16": True, "eval_strategy": "steps", "eval_steps": 4, "store_dir": str(folder / "store")}
        runs.append(losses(train("cuda", None, data, tokenizer, folder, schedule, model=model, **arguments, **given)))
    assert torch.allclose(runs[0], runs[1], atol=0.1)
