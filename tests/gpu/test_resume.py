"""A resumed training has the bits of an uninterrupted one, with deterministic algorithms."""

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig, prepare_datasets
from tests.gpu.devices import NEEDS_CUDA, losses, train, weights
from tests.tiny import ROWS

pytestmark = pytest.mark.gpu

# Changes of stage at a checkpoint, and between two.
STAGES = {
    "stages": [
        {"train": "heads", "steps": 4},
        {"train": ["encoder[-1:]", "heads"], "steps": 5},
        {"train": "all"},
    ]
}
SAVING = {"max_steps": 12, "save_strategy": "steps", "save_steps": 4}
RUNS = [
    {},
    {"bf16": True},
    {"slots": {"head": "lstm", "crf": True}},
    {"ema_decay": 0.9},
    {"gradient_accumulation_steps": 2, "activation_checkpointing": True},
    {"store_frozen": "always"},
    {"optim": "sgd"},
]


def with_dropout(encoder, data):
    torch.manual_seed(0)
    return MultiTaskModel.from_encoder(encoder, data.tasks)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("given", RUNS, ids=str)
def test_a_resumed_training_is_equal_in_every_bit(given, device, encoder, tokenizer, tmp_path):
    arguments = {name: value for name, value in given.items() if name != "slots"}
    tasks = [
        TaskConfig("intent", "sequence_classification"),
        TaskConfig("slots", "token_classification", **given.get("slots", {})),
    ]
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    places = {"store_dir": str(tmp_path / "store"), **SAVING, **arguments}

    def run(resume=None):
        # Dropout draws the random numbers that a checkpoint restores.
        model = with_dropout(encoder, data)
        return train(device, None, data, tokenizer, tmp_path / "run", STAGES, resume, model=model, **places)

    whole = run()
    expected, logged = weights(whole), losses(whole)
    for step in (4, 8):
        again = run(str(tmp_path / "run" / f"checkpoint-{step}"))
        assert torch.equal(losses(again), logged)
        found = weights(again)
        different = [name for name in expected if not torch.equal(found[name], expected[name])]
        assert not different


@NEEDS_CUDA
@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_training_goes_on_where_the_other_device_has_stopped(first, second, encoder, data, tokenizer, tmp_path):
    saving = {**SAVING, "ema_decay": 0.9}
    whole = train(first, encoder, data, tokenizer, tmp_path, STAGES, **saving)
    expected = losses(whole)
    again = train(second, encoder, data, tokenizer, tmp_path, STAGES, str(tmp_path / "checkpoint-8"), **saving)
    assert torch.allclose(losses(again), expected, atol=2e-3)
