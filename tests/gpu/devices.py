"""The devices that tests run on, and what they need."""

import shutil

import pytest
import torch
from transformers import set_seed

from hf_multitask import MultiTaskModel, MultiTaskTrainer
from tests.trainers import make_trainer, without_dropout

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: make test-gpu")
NEEDS_TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices: make test-gpu")
NEEDS_COMPILER = pytest.mark.skipif(
    all(shutil.which(name) is None for name in ("cc", "gcc", "clang")), reason="inductor needs a C compiler"
)
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]


def to_device(value, device):
    """Return a batch on a device; what is no tensor stays."""
    if isinstance(value, dict):
        return {name: to_device(item, device) for name, item in value.items()}
    return value.to(device) if torch.is_tensor(value) else value


def train(device, encoder, data, tokenizer, folder, schedule=None, resume=None, given=None, model=None, **arguments):
    """Train on a device without dropout, from the same seed, and return the trainer.

    The Trainer would turn TF32 on under ``torch_compile``.
    """
    set_seed(0)
    if model is None:
        model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    defaults = {"use_cpu": device == "cpu", "learning_rate": 1e-3, "logging_steps": 1, "max_steps": 8, "tf32": False}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, given, **{**defaults, **arguments})
    assert trainer.args.device.type == device
    trainer.train(resume_from_checkpoint=resume)
    assert {weight.device.type for weight in trainer.model.parameters()} == {device}
    return trainer


def losses(trainer):
    """Return the logged losses of a training."""
    return torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def weights(trainer: MultiTaskTrainer):
    """Return copies of the weights on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in trainer.model.named_parameters()}
