"""Cached equals computed: the same training whether frozen layers run once or in every pass."""

import copy
import errno
import logging
import os

import datasets
import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, load_tokenizer, prepare_datasets
from hf_multitask.freezing import freeze
from hf_multitask.freezing.activation_cache import cache, store
from tests.models.many_encoders import save_any_encoder
from tests.tiny import ARCHITECTURES, ROWS
from tests.trainers import make_trainer

DOWN = {
    "stages": [
        {"name": "heads", "train": "heads", "epochs": 2},
        {"name": "upper", "train": ["heads", "encoder[-1:]"], "epochs": 1},
        {"name": "all", "train": "all", "epochs": 1},
    ]
}
AGAIN = {
    "stages": [
        {"name": "upper", "train": ["heads", "encoder[-2:]"], "epochs": 1},
        {"name": "heads", "train": "heads", "epochs": 2},
        {"name": "one head", "train": "head.slots"},
    ]
}
# Nothing is evaluated between the stages in which the same layers are frozen.
BACK = {
    "stages": [
        {"name": "upper", "train": ["heads", "encoder[-1:]"], "epochs": 1},
        {"name": "more", "train": ["heads", "encoder[-2:]"], "epochs": 0.5},
        {"name": "upper again", "train": ["heads", "encoder[-1:]"], "epochs": 2.5},
    ]
}
WHOLE = {"stages": [{"name": "heads", "train": "heads", "epochs": 2}, {"name": "all", "epochs": 2}]}


class CountLayers(TrainerCallback):
    """Counts how often each layer runs, by the steps that were finished then."""

    def __init__(self, model):
        self.runs = []
        self.step = 0
        for i, layer in enumerate(model.encoder.encoder.layer):
            original = layer.forward

            def forward(states, *args, i=i, original=original, **kwargs):
                if states.shape[:2] != (1, 2):  # not the probe that finds the order of the layers
                    self.runs.append((self.step, i))
                return original(states, *args, **kwargs)

            layer.forward = forward

    def on_step_end(self, args, state, control, **kwargs):
        self.step = state.global_step


class Overwrite(TrainerCallback):
    """Sets weights to NaN after the first step of some stages, and restores them before they train."""

    def __init__(self, model, prefixes):
        self.model, self.prefixes, self.kept = model, prefixes, None

    def on_step_end(self, args, state, control, **kwargs):
        names = self.prefixes.get(state.global_step, ())
        weights = {name: w for name, w in self.model.encoder.named_parameters() if name.startswith(tuple(names))}
        if state.global_step in self.prefixes and self.kept is None:
            self.kept = {name: weight.detach().clone() for name, weight in weights.items()}
            for weight in weights.values():
                weight.data.fill_(torch.nan)
        elif state.global_step in self.prefixes:
            for name, weight in self.model.encoder.named_parameters():
                if name in self.kept:
                    weight.data.copy_(self.kept[name])
            self.kept = None


def losses(trainer):
    """Return the logged training and validation losses."""
    wanted = ("loss", "intent_loss", "slots_loss", "eval_loss", "eval_intent_loss", "eval_slots_loss")
    return [entry[name] for entry in trainer.state.log_history for name in wanted if name in entry]


@pytest.fixture
def train(encoder, data, tokenizer, tmp_path):
    def run(
        mode, schedule, folder="store", given_data=None, given_tokenizer=None, source=encoder, change=None, **kwargs
    ):
        prepared, used = given_data or data, given_tokenizer or tokenizer
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(source, prepared.tasks)
        arguments = {
            "num_train_epochs": 4,
            "logging_steps": 1,
            "eval_strategy": "epoch",
            "learning_rate": 1e-3,
            "store_frozen": mode,
            "store_dir": str(tmp_path / folder),
            **kwargs,
        }
        trainer = make_trainer(model, prepared, used, tmp_path / "out", copy.deepcopy(schedule), **arguments)
        if change is not None:
            change(trainer)
        trainer.train()
        return trainer

    return run


def assert_same_training(stored, computed, tolerance=1e-5):
    found, expected = losses(stored), losses(computed)
    assert len(found) == len(expected) > 20
    assert found == pytest.approx(expected, rel=tolerance, abs=1e-7)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_equal_those_of_computed_states_and_frozen_layers_do_not_run(encoders, train, tasks, architecture):
    tokenizer = load_tokenizer(encoders[architecture])
    prepared = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    kwargs = {"source": encoders[architecture], "given_data": prepared, "given_tokenizer": tokenizer}
    computed = train("never", WHOLE, **kwargs)
    assert_same_training(train("always", WHOLE, **kwargs), computed)
    # Again with the stores of that run for training and evaluation, and without any usable weight of the encoder.
    whole_encoder = {1: ("",), 12: ("",)}
    stored = train(
        "auto", WHOLE, change=lambda trainer: trainer.add_callback(Overwrite(trainer.model, whole_encoder)), **kwargs
    )
    assert_same_training(stored, computed)
    for found, expected in zip(stored.model.parameters(), computed.model.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("schedule", [DOWN, AGAIN, BACK, "gradual"], ids=["down", "frozen again", "back", "gradual"])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"activation_checkpointing": True},
        {"dataloader_num_workers": 2},
    ],
    ids=["plain", "accumulated", "activation checkpointing", "workers"],
)
def test_losses_equal_those_of_computed_states(train, schedule, kwargs):
    epochs = {"num_train_epochs": 5} if schedule == "gradual" else {}
    assert_same_training(train("always", schedule, **kwargs, **epochs), train("never", schedule, **kwargs, **epochs))


def test_layers_above_cached_states_train_under_reentrant_checkpointing(train):
    reentrant = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}}
    assert_same_training(train("always", DOWN, **reentrant), train("never", DOWN))


def test_compiled(train):
    compiled = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    assert_same_training(train("always", DOWN, **compiled), train("never", DOWN))


@pytest.mark.parametrize("schedule", [DOWN, AGAIN], ids=["down", "frozen again"])
def test_under_autocast_losses_differ_by_less_than_its_precision(train, schedule):
    arguments = {"bf16": True, "use_cpu": True}
    stored, computed = (train(mode, schedule, **arguments) for mode in ("always", "never"))
    assert_same_training(stored, computed, torch.finfo(torch.bfloat16).eps)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-3), ("bfloat16", 5e-2)])
def test_half_precision_is_close(train, dtype, tolerance):
    stored = train("always", DOWN, store_dtype=dtype)
    assert_same_training(stored, train("never", DOWN), tolerance)
    assert losses(stored) != losses(train("never", DOWN))


def test_windows(train, tokenizer, tasks):
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks, max_length=8, overlap=2)
    assert max(len(lengths) for lengths in data["train"]["window_lengths"]) > 1
    assert_same_training(train("always", DOWN, given_data=data), train("never", DOWN, given_data=data))


def count(trainer):
    trainer.counter = CountLayers(trainer.model)
    trainer.add_callback(trainer.counter)


def runs_by_layer(trainer, steps):
    return [[layer for step, layer in trainer.counter.runs if step in steps].count(i) for i in range(3)]


def test_each_layer_runs_once_on_each_row_while_it_is_frozen(train):
    first = train("always", DOWN, change=count, eval_strategy="no")
    # One batch through all layers stores the states of all stages; six steps per epoch.
    assert runs_by_layer(first, range(12)) == [1, 1, 1]
    assert runs_by_layer(first, range(12, 18)) == [0, 0, 6]
    assert runs_by_layer(first, range(18, 24)) == [6, 6, 6]
    second = train("auto", DOWN, change=count, eval_strategy="no")
    assert runs_by_layer(second, range(12)) == [0, 0, 0]
    assert losses(second) == losses(first)


def test_frozen_again_only_the_layers_between_run(train):
    trainer = train("always", AGAIN, change=count, eval_strategy="no")
    assert runs_by_layer(trainer, range(6)) == [1, 6, 6]
    assert runs_by_layer(trainer, range(6, 18)) == [0, 1, 1]


def test_evaluation_reads_a_store_too(train):
    trainer = train("always", WHOLE, change=count, per_device_eval_batch_size=11, eval_on_start=False)
    # Once through the training rows, once through the validation rows.
    assert runs_by_layer(trainer, range(12)) == [2, 2, 2]


def layers_that_run(trainer, call):
    trainer.counter.runs.clear()
    result = call()
    return [layer for _, layer in trainer.counter.runs], result


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_outside_of_a_training_states_are_stored_only_with_always(train, data, mode):
    trainer = train(mode, "none", change=count, num_train_epochs=1, per_device_eval_batch_size=32)
    first, computed = layers_that_run(trainer, lambda: trainer.predict(data["test"]))
    again, found = layers_that_run(trainer, lambda: trainer.predict(data["test"]))
    assert first == [0, 1, 2]
    assert again == ([] if mode == "always" else [0, 1, 2])
    for task in trainer.tasks:
        losses_of = [output.predictions[task.name]["loss"] for output in (found, computed)]
        np.testing.assert_allclose(*losses_of, atol=1e-5)
    # Other weights have other states.
    for weight in trainer.model.encoder.parameters():
        weight.data.mul_(1.5)
    changed, other = layers_that_run(trainer, lambda: trainer.predict(data["test"]))
    assert changed == [0, 1, 2]
    assert other.metrics["test_loss"] != pytest.approx(found.metrics["test_loss"], abs=1e-3)


def test_a_separate_evaluation_reads_the_stores_of_the_training(train):
    trainer = train("always", "encoder", change=count, per_device_eval_batch_size=32)
    ran, metrics = layers_that_run(trainer, trainer.evaluate)
    assert ran == []
    computed = train("never", "encoder", per_device_eval_batch_size=32).evaluate()
    assert metrics["eval_loss"] == pytest.approx(computed["eval_loss"], abs=1e-5)


def test_without_a_schedule_states_of_layers_frozen_by_the_user_are_stored(encoder, data, tokenizer, tmp_path):
    counted = []
    for mode in ("always", "never"):
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        freeze(model, "encoder[:2]")
        freeze(model, ["embeddings", "encoder[:2]"])
        counter = CountLayers(model)
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            tmp_path,
            None,
            store_frozen=mode,
            store_dir=str(tmp_path / "s"),
            num_train_epochs=2,
        )
        trainer.add_callback(counter)
        trainer.train()
        counted.append([sum(layer == i for _, layer in counter.runs) for i in range(3)])
    assert counted == [[1, 1, 12], [12, 12, 12]]


def messages(caplog):
    return " ".join(record.getMessage() for record in caplog.records if "activation_cache" in record.name)


def test_auto_logs_its_decision_and_the_reason(train, caplog):
    caplog.set_level(logging.INFO)
    train("auto", DOWN)
    assert "Frozen layers are computed once: the states entering heads of 22 train rows" in messages(caplog)
    assert "saves 8 passes through a layer, costs 3" in messages(caplog)
    caplog.clear()
    train("auto", {"stages": [{"train": "heads", "epochs": 1}, {"train": "all"}]}, folder="other")
    assert "computed in every pass over the train rows: it saves 3 passes through a layer and costs 3" in messages(
        caplog
    )


class OtherCollator(MultiTaskDataCollator):
    """A collator that may change the rows."""


def stream(trainer):
    rows = trainer.train_dataset
    trainer.train_dataset = rows.to_iterable_dataset()
    trainer.args.max_steps = 8


def transform(trainer):
    trainer.train_dataset = trainer.train_dataset.with_transform(lambda batch: dict(batch))


def hidden_states(trainer):
    trainer.model.encoder.config.output_hidden_states = True


def augment(trainer):
    trainer.data_collator = OtherCollator(trainer.processing_class, trainer.tasks)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (transform, "the training rows are transformed as they are read"),
        (hidden_states, "output_hidden_states needs every layer"),
        (augment, "OtherCollator may make other batches of the same rows"),
    ],
)
def test_the_reason_why_states_cannot_be_stored_is_logged(train, caplog, tmp_path, change, word):
    caplog.set_level(logging.INFO)
    trainer = train("always", DOWN, change=change)
    assert f"Frozen layers are computed in every pass: {word}" in messages(caplog)
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())
    assert trainer.state.global_step == 24


def test_an_encoder_that_cannot_start_from_stored_states_runs_in_every_pass(train, tasks, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = save_any_encoder("t5", tmp_path / "encoder")
    tokenizer = load_tokenizer(source)
    prepared = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    given = {"source": source, "given_data": prepared, "given_tokenizer": tokenizer}
    assert_same_training(*(train(mode, DOWN, folder=mode, **given) for mode in ("always", "never")))
    message = "The layers of this encoder cannot start from stored states: they run in every pass."
    assert message in messages(caplog)
    caplog.clear()
    train("always", "none", folder="none", **given)
    assert message not in messages(caplog)


def test_a_stream_is_not_stored(encoder, tokenizer, tasks, tmp_path, caplog, write_jsonl):
    caplog.set_level(logging.INFO)
    data = prepare_datasets({"train": write_jsonl(ROWS), "validation": ROWS[:10]}, tokenizer, tasks, streaming=True)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    make_trainer(model, data, tokenizer, tmp_path, "encoder", store_frozen="always", max_steps=4).train()
    assert "the training rows are not a datasets.Dataset" in messages(caplog)


def test_training_continues_on_a_full_disk_with_a_warning(train, caplog, monkeypatch):
    def write(self, states):
        raise OSError(errno.ENOSPC, "No space left on device")

    computed = train("never", DOWN)
    monkeypatch.setattr(store.PartWriter, "write", write)
    trainer = train("always", DOWN)
    assert "Continuing without cached states: the store cannot be written: [Errno 28] No space" in messages(caplog)
    assert losses(trainer) == losses(computed)


def test_a_killed_build_is_resumed(train, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "TOKENS_PER_PASS", 64)
    whole = train("always", DOWN, folder="whole")
    write, written = store.PartWriter.write, []

    def dying(self, states):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(states)
        write(self, states)

    monkeypatch.setattr(store.PartWriter, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        train("always", DOWN, folder="killed")
    assert list((tmp_path / "killed").glob("*/*.unfinished"))
    assert not list((tmp_path / "killed").glob("*/*.states"))
    monkeypatch.setattr(store.PartWriter, "write", write)
    assert losses(train("always", DOWN, folder="killed")) == losses(whole)
    assert not list((tmp_path / "killed").glob("*/*.unfinished"))


def test_a_pass_that_stores_has_at_least_the_tokens_of_an_evaluation_batch(train, monkeypatch):
    monkeypatch.setattr(cache, "TOKENS_PER_PASS", 1)
    write, written = store.PartWriter.write, []

    def counting(self, states):
        written.append(states)
        write(self, states)

    monkeypatch.setattr(store.PartWriter, "write", counting)
    passes = {}
    for size in (1, len(ROWS)):
        written.clear()
        train("always", DOWN, folder=str(size), per_device_eval_batch_size=size)
        passes[size] = len(written)
    assert passes[len(ROWS)] < passes[1]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(("damage", "found"), [(flip, "a checksum differs"), (cut, "the size is wrong")])
def test_a_damaged_store_changes_no_training_and_is_written_again(train, tmp_path, caplog, damage, found):
    computed = train("never", DOWN)
    whole = train("always", DOWN)
    files = sorted((tmp_path / "store").glob("*/*.states"))
    contents = [path.read_bytes() for path in files]
    for path in files:
        damage(path)
    caplog.clear()
    assert_same_training(train("always", DOWN), computed)
    text = messages(caplog)
    for path in files:
        assert f"{path}: the stored states are damaged: {found}" in text
    caplog.clear()
    assert losses(train("always", DOWN)) == losses(whole)
    assert "damaged" not in messages(caplog)
    assert [path.read_bytes() for path in files] == contents


def test_a_store_that_another_is_built_from_is_checked_too(train, tmp_path, caplog):
    upper = {"stages": [{"name": "upper", "train": ["heads", "encoder[-1:]"], "epochs": 1}]}
    train("always", upper, num_train_epochs=1)
    for path in (tmp_path / "store").glob("*/*.states"):
        flip(path)
    caplog.clear()
    assert_same_training(train("always", WHOLE), train("never", WHOLE))
    assert "a checksum differs" in messages(caplog)


def test_other_weights_make_other_stores_and_old_ones_are_evicted(train, tmp_path):
    folder = tmp_path / "store"
    train("always", WHOLE, eval_strategy="no")
    (first,) = folder.iterdir()
    size = sum(path.stat().st_size for path in first.iterdir())

    def move(trainer):
        next(iter(trainer.model.encoder.parameters())).data.add_(0.1)

    train("always", WHOLE, eval_strategy="no", change=move, store_max_bytes=2 * size)
    assert len(list(folder.iterdir())) == 2
    (second,) = set(folder.iterdir()) - {first}
    os.utime(second, (0, 0))
    train("always", WHOLE, eval_strategy="no", change=move, store_max_bytes=2 * size)
    assert second.stat().st_mtime > first.stat().st_mtime  # it was just read
    train("always", DOWN, eval_strategy="no", change=move, store_max_bytes=2 * size)
    assert len(list(folder.iterdir())) == 2
    assert first not in folder.iterdir()


def test_no_store_is_made_without_space(train, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train("always", WHOLE, store_max_bytes=100)
    assert "there is space for 100 B" in messages(caplog)
    assert not list((tmp_path / "store").iterdir())


def test_restored_weights_have_their_own_states(train):
    schedule = {
        "stages": [
            {"train": ["heads", "encoder[-2:]"], "steps": 7, "restore_best": True, "learning_rate": 0.05},
            {"train": "heads"},
        ]
    }
    arguments = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    assert_same_training(train("always", schedule, **arguments), train("never", schedule, **arguments))


def test_arguments_are_checked(train):
    with pytest.raises(ValueError, match=r"unknown store_frozen 'sometimes'\. Allowed: 'auto', 'always', 'never'"):
        train("sometimes", DOWN)
    with pytest.raises(ValueError, match="unknown store_dtype 'float8'"):
        train("auto", DOWN, store_dtype="float8")
    with pytest.raises(ValueError, match="store_max_bytes must be at least 0, found -1"):
        train("auto", DOWN, store_max_bytes=-1)


def test_several_validation_sets_have_a_store_each(encoder, data, tokenizer, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    sets = {"validation": {"a": data["validation"], "b": data["test"]}, "train": data["train"]}
    trainer = make_trainer(
        model,
        sets,
        tokenizer,
        tmp_path,
        "encoder",
        store_frozen="always",
        store_dir=str(tmp_path / "store"),
        eval_strategy="epoch",
        num_train_epochs=2,
        per_device_eval_batch_size=32,
    )
    count(trainer)
    trainer.train()
    assert [layer for _, layer in trainer.counter.runs].count(0) == 3
    assert isinstance(data["train"], datasets.Dataset)
    assert len(list((tmp_path / "store").iterdir())) == 3


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_persistent_workers_serve_a_second_evaluation(train, mode):
    kept = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = train(mode, "encoder", **kept)
    found = trainer.evaluate()["eval_loss"]
    assert found == pytest.approx(train("never", "encoder", **kept).evaluate()["eval_loss"], abs=1e-5)
