"""A training step waits for the device only if a value is logged."""

import itertools
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.freezing import rates
from hf_multitask.models import encoder_attention
from tests.tiny import ARCHITECTURES
from tests.trainers import make_trainer

# Operations that need the values of a tensor on the host: .item(), bool(), and shapes that depend on values.
READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2"}
STAGES = [
    {"train": "heads", "steps": 2},
    {"freeze": "head.intent", "steps": 3, "warmup_steps": 2},
    {"train": "all", "lr_scheduler_type": "cosine"},
]
PROTECTED = {"stages": STAGES, "protect": {"intent": {"distill": 1.0}}}


class Reads(TorchDispatchMode):
    """Records operations that wait for the device, while it is switched on."""

    def __init__(self):
        super().__init__()
        self.on, self.found, self.seen = False, [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.on:
            name = func._schema.name
            masks = args[1] if name in ("aten::index", "aten::index_put_") else ()
            is_mask = any(index is not None and index.dtype == torch.bool for index in masks)
            self.seen += 1
            if name in READS or is_mask:
                self.found.append(name)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def switched(self, on):
        before, self.on = self.on, on
        yield
        self.on = before


class Watch(TrainerCallback):
    """Switches the recording on from the beginning of a step, after the freezing, to its end."""

    def __init__(self, reads):
        self.reads = reads

    def on_step_begin(self, args, state, control, **kwargs):
        self.reads.on = True

    def on_step_end(self, args, state, control, **kwargs):
        self.reads.on = False


@pytest.fixture
def reads_of(encoders, data, tokenizer, tmp_path, monkeypatch):
    # As on a GPU. On a CPU the encoder makes the masks, and looks at their values.
    monkeypatch.setattr(encoder_attention, "HOST", ())

    def train(architecture="bert", freeze_schedule=PROTECTED, **arguments):
        reads = Reads()
        model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
        defaults = {"max_steps": 8, "gradient_accumulation_steps": 2, "logging_steps": 100}
        trainer = make_trainer(model, data, tokenizer, tmp_path, freeze_schedule, **{**defaults, **arguments})
        trainer.add_callback(Watch(reads))
        get_batch_samples = trainer.get_batch_samples

        def count_but_for_the_data(iterator, number, device):
            batches = list(itertools.islice(iterator, number))
            with reads.switched(True):
                return get_batch_samples(iter(batches), number, device)

        trainer.get_batch_samples = count_but_for_the_data
        with reads:
            trainer.train()
        assert reads.seen > 1000
        return reads.found

    return train


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_step_reads_a_value_back(architecture, reads_of):
    assert reads_of(architecture) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"bf16": True, "use_cpu": True},
        {"activation_checkpointing": True},
        {"max_grad_norm": 0.0},
        {"freeze_schedule": None},
    ],
    ids=str,
)
def test_no_step_reads_a_value_back_however_it_trains(arguments, reads_of):
    assert reads_of(**arguments) == []


def test_reads_of_values_would_be_found(reads_of, monkeypatch):
    assert len(reads_of(logging_nan_inf_filter=True)) == 2 * 8 * 2
    monkeypatch.setattr(encoder_attention, "HOST", ("cpu",))
    assert len(reads_of(freeze_schedule=None)) == 8 * 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prebuilt_masks_change_no_output(architecture, encoders, data, tokenizer, monkeypatch):
    model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks).eval()
    for sentences in (["play some music", "weather", "a table for two at the old mill"], ["book a table"]):
        batch = tokenizer(sentences, padding=True, return_tensors="pt")
        expected = model(**batch).logits
        with monkeypatch.context() as patch:
            patch.setattr(encoder_attention, "HOST", ())
            found = model(**batch).logits
        for name in expected:
            assert torch.allclose(found[name], expected[name], atol=1e-6)


def test_a_loss_of_nan_is_in_the_log_and_does_not_stay_there(model, data, tokenizer, tmp_path):
    class Once(MultiTaskTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            return loss * float("nan") if self.state.global_step == 1 else loss

        def _clip_grad_norm(self, model):
            if self.state.global_step == 1:
                model.zero_grad()
            return torch.tensor(0.0)

    trainer = make_trainer(model, data, tokenizer, tmp_path, trainer=Once, max_steps=3, logging_steps=1)
    trainer.train()
    losses = torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses.isnan().tolist() == [False, True, False]


def test_the_scheduler_of_a_stage_is_built_once_per_stage(model, data, tokenizer, tmp_path, monkeypatch):
    made = []

    def count(stage, length):
        made.append(length)
        return rates.StageRateFactor(stage, length)

    monkeypatch.setattr("hf_multitask.freezing.trainer_callback.StageRateFactor", count)
    make_trainer(model, data, tokenizer, tmp_path, {"stages": STAGES}, max_steps=8).train()
    # Each once to check its arguments before the first step, with the length of the run.
    assert made == [8, 8, 3, 3]


def test_batches_are_copied_to_the_device_without_waiting(tmp_path, monkeypatch):
    folder = str(tmp_path)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert MultiTaskTrainingArguments(output_dir=folder).accelerator_config.non_blocking
    own = MultiTaskTrainingArguments(output_dir=folder, accelerator_config={"split_batches": True})
    assert (own.accelerator_config.split_batches, own.accelerator_config.non_blocking) == (True, False)
    assert not MultiTaskTrainingArguments(
        output_dir=folder, dataloader_pin_memory=False
    ).accelerator_config.non_blocking
    # Pinning needs an accelerator; torch would warn at each loader.
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert not MultiTaskTrainingArguments(output_dir=folder).dataloader_pin_memory
