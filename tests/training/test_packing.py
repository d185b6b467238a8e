"""Short texts that share a row of the encoder in training."""

import pytest
import torch

from hf_multitask import MultiTaskModel, prepare_datasets
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

# The last layer and the heads, on states that are stored; then everything.
STAGES = {"stages": [{"epochs": 1, "train": ["heads", "encoder.1"]}, {"train": "all"}]}


def joined(rows):
    """Return rows as one, with the intent of the first."""
    return {**rows[0], **{name: [value for row in rows for value in row[name]] for name in ("tokens", "slots")}}


@pytest.fixture
def data(tokenizer, tasks):
    """Return rows of one to four sentences."""
    rows = [joined([ROWS[(i + j) % len(ROWS)] for j in range(1 + i % 4)]) for i in range(32)]
    return prepare_datasets({"train": rows, "validation": rows[:9]}, tokenizer, tasks)


@pytest.fixture
def train(tmp_path, encoder, data, tokenizer):
    """Return a function that trains, and returns the weights and how many tokens the last layer has read."""

    def train(folder, resume=None, has_dropout=True, **arguments):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        model = model if has_dropout else without_dropout(model)
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            tmp_path / folder,
            STAGES,
            num_train_epochs=2,
            per_device_train_batch_size=8,
            train_sampling_strategy="random",
            eval_strategy="epoch",
            save_strategy="steps",
            save_steps=1,
            store_frozen="always",
            store_dir=str(tmp_path / folder / "states"),
            **arguments,
        )
        read = {True: [], False: []}
        model.partial_forward.layers[-1].register_forward_hook(
            lambda layer, args, output: read[model.training].append(args[0].shape[:2].numel())
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(tmp_path / "whole" / resume))
        return model.state_dict(), read

    return train


def test_weights_are_those_of_padded_texts_from_fewer_tokens(train):
    padded, read = train("padded", has_dropout=False)
    packed, read_packed = train("packed", has_dropout=False, packing=True)
    assert len(read_packed[True]) == len(read[True]) > 4
    assert sum(read_packed[True]) < 0.9 * sum(read[True])
    assert read_packed[False] == read[False], "rows that are evaluated are sorted by length"
    for name, values in padded.items():
        torch.testing.assert_close(packed[name], values, rtol=1e-3, atol=1e-4)


def test_a_run_that_cannot_pack_says_so(tmp_path, encoder, data, tokenizer, caplog):
    model = MultiTaskModel.from_encoder(encoder, data.tasks, attn_implementation="eager")
    make_trainer(model, data, tokenizer, tmp_path, packing=True, max_steps=1).train()
    assert "packing has no effect: it needs a CPU, attention of torch (sdpa)" in caplog.text


def test_a_resumed_run_is_the_same(train):
    whole, _ = train("whole", packing=True)
    padded, _ = train("padded")
    assert any(not torch.equal(whole[name], padded[name]) for name in whole), "dropout is drawn for other rows"
    for step in (1, 4):
        resumed, _ = train("resumed", resume=f"checkpoint-{step}", packing=True)
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
