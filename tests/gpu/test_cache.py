"""The activation cache of a device, and steps that do not wait for it."""

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, TaskConfig, prepare_datasets
from hf_multitask.freezing.activation_cache.store import ActivationStore, Part, PartWriter, StatesLayout
from tests.gpu.devices import NEEDS_CUDA, losses, train
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

pytestmark = pytest.mark.gpu

# Six steps per epoch.
STAGES = {
    "stages": [
        {"train": "heads", "epochs": 2},
        {"train": ["encoder[-1:]", "heads"], "epochs": 1},
        {"train": "all"},
    ]
}
# Largest difference of a loss to that of computed states, by what the run computes or stores in.
PRECISIONS = [
    ({}, 1e-4),
    ({"bf16": True}, 2e-2),
    ({"store_dtype": "bfloat16"}, 5e-2),
    ({"store_dtype": "float16"}, 5e-3),
]


class Dtypes:
    """Records the types of the products in the first layer of the encoder."""

    def __init__(self, model):
        self.found = set()
        model.encoder.encoder.layer[0].attention.self.query.register_forward_hook(self.note)

    def note(self, module, inputs, output):
        if output.shape[:2] != (1, 2):  # not the probe that finds the order of the layers
            self.found.add(output.dtype)


@pytest.mark.parametrize(("given", "bound"), PRECISIONS, ids=str)
def test_a_training_from_stored_states_has_the_losses_of_computed_ones(
    given, bound, device, encoder, data, tokenizer, tmp_path
):
    runs = [
        train(
            device,
            encoder,
            data,
            tokenizer,
            tmp_path / mode,
            STAGES,
            max_steps=24,
            store_frozen=mode,
            store_dir=str(tmp_path / "store"),
            eval_strategy="epoch",
            **given,
        )
        for mode in ("never", "always")
    ]
    assert any((tmp_path / "store").rglob("*.states"))
    assert torch.allclose(losses(runs[0]), losses(runs[1]), atol=bound)


def test_states_are_computed_in_the_precision_of_the_run(device, encoder, data, tokenizer, tmp_path):
    model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))
    seen = Dtypes(model)
    schedule = {"stages": [{"train": "heads"}]}
    folders = {"store_frozen": "always", "store_dir": str(tmp_path / "store")}
    train(device, None, data, tokenizer, tmp_path, schedule, model=model, bf16=True, **folders)
    # The layer runs only to fill the cache.
    assert seen.found == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("parts", [1, 2])
def test_states_are_read_into_a_batch_of_the_device(parts, dtype, device, tmp_path):
    lengths = np.array([3, 1, 4, 2])
    layout = StatesLayout(lengths, hidden_size=5, dtype=dtype)
    states = [torch.randn(length, 5).to(dtype) for length in lengths]
    for i in range(parts):
        part = Part(layout, i, parts)
        writer = PartWriter(tmp_path, part)
        for row in part.rows:
            writer.write(states[row].to(device))
        writer.finish()
    store = ActivationStore.find(tmp_path, layout)
    rows = [2, 0, 1]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]], device=device)
    found = store.read(rows, mask)
    assert found.device.type == device
    for i, row in enumerate(rows):
        assert torch.equal(found[i][mask[i].bool()].cpu(), states[row])


class Forbidding(MultiTaskTrainer):
    """Lets torch raise an error if a step waits for the device, in all steps but the first ones of a stage."""

    steps = ()

    def get_batch_samples(self, *args, **kwargs):
        if self.state.global_step in self.steps:
            torch.cuda.set_sync_debug_mode("error")
        return super().get_batch_samples(*args, **kwargs)


class Allowing(TrainerCallback):
    """Allows waiting again at the end of a step, before a log."""

    def __init__(self):
        self.forbidden = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.forbidden += torch.cuda.get_sync_debug_mode() == 2
        torch.cuda.set_sync_debug_mode("default")


SLOTS = [{}, {"head": "lstm"}, {"crf": True}, {"mix_layers": True}]
RUNS = [
    *({"slots": slots} for slots in SLOTS),
    {"slots": {}, "bf16": True},
    {"slots": {}, "store_frozen": "always"},
    {"slots": {}, "store_frozen": "always", "bf16": True, "store_dtype": "bfloat16"},
    {"slots": {}, "ema_decay": 0.9, "gradient_accumulation_steps": 2},
    {"slots": {}, "activation_checkpointing": True},
    {"slots": {}, "optim": "adamw_torch"},
]


@NEEDS_CUDA
@pytest.mark.parametrize("given", RUNS, ids=str)
def test_no_step_between_two_logs_waits_for_the_device(given, encoder, tokenizer, tmp_path):
    slots, arguments = given["slots"], {name: value for name, value in given.items() if name != "slots"}
    tasks = [
        TaskConfig("intent", "sequence_classification", class_weights="balanced"),
        TaskConfig("slots", "token_classification", **slots),
    ]
    data = prepare_datasets({"train": ROWS * 4}, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    schedule = {
        "stages": [
            {"train": "heads", "steps": 6},
            {"train": ["encoder", "head.slots"], "steps": 6},
            {"train": "all"},
        ],
        "protect": {"intent": {"distill": 1.0}},
    }
    allowing = Allowing()
    trainer = make_trainer(
        model,
        data,
        tokenizer,
        tmp_path,
        schedule,
        {"callbacks": [allowing]},
        trainer=Forbidding,
        max_steps=18,
        logging_steps=100,
        store_dir=str(tmp_path / "store"),
        **arguments,
    )
    # A stage begins with reads and writes, and what is created once, as class weights, is copied in its first step.
    # Its last step is logged.
    trainer.steps = {step for step in range(18) if step % 6 in (2, 3, 4)}
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert allowing.forbidden == len(trainer.steps)


@NEEDS_CUDA
def test_a_step_that_waits_would_be_found(encoder, data, tokenizer, tmp_path):
    class Waiting(Forbidding):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            loss.item()
            return loss

    trainer = make_trainer(
        MultiTaskModel.from_encoder(encoder, data.tasks), data, tokenizer, tmp_path, trainer=Waiting, max_steps=4
    )
    trainer.steps = {3}
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@NEEDS_CUDA
def test_batches_are_copied_from_pinned_memory(encoder, data, tokenizer, tmp_path):
    trainer = make_trainer(MultiTaskModel.from_encoder(encoder, data.tasks), data, tokenizer, tmp_path)
    loader = trainer.get_train_dataloader()
    assert loader.base_dataloader.pin_memory
    assert loader._non_blocking
    batch = next(iter(loader))
    assert batch["input_ids"].device.type == batch["labels"]["slots"].device.type == "cuda"
