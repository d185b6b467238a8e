"""Training and evaluation with batches counted in tokens."""

import copy

import datasets
import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import (
    DataConfig,
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    RunConfig,
    prepare_datasets,
)
from hf_multitask.training.row_checks import check_training_rows
from tests.tiny import ROWS
from tests.trainers import without_dropout
from tests.training.test_trainer import SOME_MISSING, KeepGradients, make_trainer

LONG = {"tokens": ["paris"] * 60, "intent": "PlayMusic", "slots": ["B-place"] * 60}


class KeepBatches(MultiTaskTrainer):
    """Trainer that keeps the shapes of the training batches of each optimizer step."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.batches = []

    def get_batch_samples(self, *args):
        samples, counts = super().get_batch_samples(*args)
        self.batches.append([batch["input_ids"].shape for batch in samples])
        return samples, counts


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = control.should_training_stop = state.global_step == self.step


@pytest.fixture
def still(encoder, tokenizer, tasks):
    """Return a model without dropout, and rows with some labels missing."""
    data = prepare_datasets({"train": SOME_MISSING, "validation": ROWS}, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    return without_dropout(model), data


def test_losses_and_gradients_do_not_depend_on_the_batches(still, tokenizer, tmp_path):
    model, data = still
    runs = []
    # Each step has all rows: in one batch, and in more and more accumulated batches.
    for max_tokens in (1000, 100, 40, 1):
        keep = KeepGradients()
        arguments = {"max_tokens_per_batch": max_tokens, "max_steps": 1, "logging_steps": 1, "max_grad_norm": 0}
        counted = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path, **arguments)
        arguments["gradient_accumulation_steps"] = len(counted.get_train_dataloader())
        trainer = make_trainer(
            copy.deepcopy(model), data, tokenizer, tmp_path, [keep], trainer=KeepBatches, **arguments
        )
        trainer.train()
        runs.append((trainer.batches, trainer.state.log_history[0], keep.gradients))
    assert [len(batches[0]) for batches, *_ in runs] == [1, 3, 6, 22]
    (_, log, gradients), *others = runs
    for _, other_log, other_gradients in others:
        for name in ("loss", "intent_loss", "slots_loss"):
            assert other_log[name] == pytest.approx(log[name], rel=1e-5)
        for expected, found in zip(gradients, other_gradients, strict=True):
            assert torch.allclose(found, expected, atol=1e-6)


def test_an_epoch_takes_each_row_once_within_the_limit(model, data, tokenizer, tmp_path):
    arguments = {"max_tokens_per_batch": 50, "gradient_accumulation_steps": 2, "num_train_epochs": 3, "max_steps": -1}
    trainer = make_trainer(model, data, tokenizer, tmp_path, trainer=KeepBatches, **arguments)
    trainer.train()
    batches_an_epoch = len(trainer.get_train_dataloader())
    steps_an_epoch = -(-batches_an_epoch // 2)
    assert trainer.state.global_step == 3 * steps_an_epoch == len(trainer.batches)
    assert trainer.state.epoch == 3
    for epoch in range(3):
        steps = trainer.batches[epoch * steps_an_epoch : (epoch + 1) * steps_an_epoch]
        shapes = [shape for step in steps for shape in step]
        assert len(shapes) == batches_an_epoch
        assert sum(rows for rows, _ in shapes) == len(ROWS)
        assert all(rows * longest <= 50 for rows, longest in shapes)


@pytest.mark.parametrize("mix", ["one", "mixed"])
@pytest.mark.parametrize("stop", [2, 9])
def test_a_resumed_run_is_the_same_run(mix, stop, encoder, tasks, tokenizer, tmp_path):
    config = DataConfig(train=ROWS, validation=ROWS[:4])
    if mix == "mixed":
        config = [DataConfig(train=ROWS[i:], validation=ROWS[:4], tasks=[task.name]) for i, task in enumerate(tasks)]
    data = prepare_datasets(config, tokenizer, tasks)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    arguments = {
        "max_tokens_per_batch": 30,
        "gradient_accumulation_steps": 2,
        "max_steps": -1,
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 1000,
    }
    whole = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "whole", **arguments)
    whole.train()
    killed = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "killed", [StopAt(stop)], **arguments)
    killed.train()
    assert killed.state.global_step == stop
    assert killed.state.epoch % 1 > 0
    resumed = make_trainer(copy.deepcopy(model), data, tokenizer, tmp_path / "killed", **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step > stop
    for expected, found in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_evaluation_and_predictions_equal_those_with_batches_of_rows(model, data, tokenizer, tmp_path):
    outputs = []
    for arguments in ({"per_device_eval_batch_size": 5}, {"max_tokens_per_batch": 30}):
        trainer = make_trainer(model, data, tokenizer, tmp_path, **arguments)
        outputs.append(trainer.predict(data["train"]))
        sizes = [len(batch["labels"]["intent"]) for batch in trainer.get_test_dataloader(data["train"])]
    assert len(set(sizes)) > 2
    rows, tokens = outputs
    times = {"test_runtime", "test_samples_per_second", "test_steps_per_second", "test_model_preparation_time"}
    assert rows.metrics.keys() - times == tokens.metrics.keys() - times
    for name in rows.metrics.keys() - times:
        assert tokens.metrics[name] == pytest.approx(rows.metrics[name], rel=1e-5)
    assert tokens.label_ids["intent"].tolist() == [row["labels"]["intent"] for row in data["train"]]
    for task in ("intent", "slots"):
        labels = rows.label_ids[task]
        assert np.array_equal(tokens.label_ids[task], labels)
        ids = [output.predictions[task]["ids"][labels != -100] for output in outputs]
        assert np.array_equal(*ids)


def test_rows_in_windows_train_and_evaluate(encoder, tasks, tokenizer, tmp_path, caplog):
    data = prepare_datasets({"train": [*ROWS, LONG], "validation": [LONG, *ROWS]}, tokenizer, tasks, max_length=16)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    trainer = make_trainer(model, data, tokenizer, tmp_path, trainer=KeepBatches, max_tokens_per_batch=64, max_steps=9)
    assert caplog.text.count("max_tokens_per_batch=64: 1 of 23 training rows are longer") == 1
    trainer.train()
    windows = len(data["train"]["window_lengths"][-1])
    shapes = [shape for (shape,) in trainer.batches]
    assert (windows, 16) in shapes
    assert all(lines * longest <= 64 for lines, longest in shapes if (lines, longest) != (windows, 16))
    output = trainer.predict(data["validation"])
    assert (output.label_ids["slots"][0] != -100).sum() == 60


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"max_tokens_per_batch": 0}, "must be a whole number from 1, found 0"),
        ({"max_tokens_per_batch": 1e4}, "must be a whole number from 1, found 10000.0"),
        ({"max_tokens_per_batch": True}, "must be a whole number from 1, found True"),
        ({"train_sampling_strategy": "random"}, "needs train_sampling_strategy='group_by_length', found 'random'"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size is for batches of a fixed number of rows"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last is for batches of a fixed number of rows"),
    ],
    ids=["none", "float", "bool", "order", "batch size", "drop last"],
)
def test_arguments_that_exclude_batches_of_tokens_are_refused(argument, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        MultiTaskTrainingArguments(output_dir=str(tmp_path), **{"max_tokens_per_batch": 64, **argument})


def test_a_config_may_set_the_tokens_per_batch():
    values = {"encoder": "somewhere", "tasks": [{"name": "intent", "type": "sequence_classification"}]}
    values |= {"data": {"train": "train.jsonl"}, "output_dir": "out", "training": {"max_tokens_per_batch": 4096}}
    assert RunConfig.from_dict(values).training_arguments().max_tokens_per_batch == 4096


def test_a_stream_is_refused_before_training(model, tokenizer, tasks, tmp_path):
    config = DataConfig(train=ROWS, validation=ROWS[:4], streaming=True)
    data = prepare_datasets(config, tokenizer, tasks)
    with pytest.raises(ValueError, match=r"max_tokens_per_batch=64 cannot be used with a TrainingStream \(streaming"):
        make_trainer(model, data, tokenizer, tmp_path, max_tokens_per_batch=64)


def test_a_dataset_without_lengths_is_refused_before_training(model, data, tokenizer, tmp_path):
    rows = {"train": [data["train"][0]], "validation": data["validation"]}
    with pytest.raises(ValueError, match="max_tokens_per_batch=64 needs the length of each training row"):
        make_trainer(model, rows, tokenizer, tmp_path, max_tokens_per_batch=64)


def test_rows_above_the_limit_are_logged(data, caplog):
    longest = max(data["train"]["length"])
    check_training_rows(data["train"], "length", longest)
    assert caplog.text == ""
    over = sum(length > longest - 1 for length in data["train"]["length"])
    check_training_rows(data["train"], "length", longest - 1)
    assert f"max_tokens_per_batch={longest - 1}: {over} of 22 training rows are longer" in caplog.text


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"input_ids": [1]}], "found a builtins.list"),
        (datasets.Dataset.from_dict({"input_ids": [[1]]}), "found the columns input_ids"),
    ],
    ids=["list", "no lengths"],
)
def test_rows_without_lengths_are_refused(rows, found):
    with pytest.raises(ValueError, match="needs the length of each training row: .* column 'length', .*" + found):
        check_training_rows(rows, "length", 100)
