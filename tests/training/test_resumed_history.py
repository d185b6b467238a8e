"""A resumed run logs what an uninterrupted one logs, bit for bit."""

import copy
import json

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import prepare_datasets
from hf_multitask.training.logged_sums import LossSums
from tests.freezing.resume_program import without_times
from tests.tiny import ROWS
from tests.trainers import make_trainer


class KilledError(Exception):
    """Stands for the end of the process."""


class Kill(TrainerCallback):
    """Ends the training right after the checkpoint of a step."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


def compare(model, data, tokenizer, folder, step, schedule=None, **settings):
    """Train once without and once with an end after a checkpoint, and compare histories, weights and results."""
    runs = []
    for name in ("whole", "killed"):
        own = copy.deepcopy(model)
        given = {"callbacks": [Kill(step)] if name == "killed" else []}
        trainer = make_trainer(own, data, tokenizer, folder / name, schedule, given, **settings)
        if name == "killed":
            with pytest.raises(KilledError):
                trainer.train()
            own = copy.deepcopy(model)
            trainer = make_trainer(own, data, tokenizer, folder / name, schedule, **settings)
        result = trainer.train(
            resume_from_checkpoint=str(folder / name / f"checkpoint-{step}") if given["callbacks"] else None
        )
        runs.append(
            (
                [without_times(entry) for entry in trainer.state.log_history],
                result.training_loss,
                trainer.state.global_step,
                own.state_dict(),
            )
        )
    (expected, loss, steps, weights), (found, *others, resumed_weights) = runs
    assert found == expected
    assert others == [loss, steps]
    assert all(torch.equal(weights[name], weight) for name, weight in resumed_weights.items())


STEPS = {"max_steps": 8, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (4, {"logging_steps": 3}),
        (3, {"logging_steps": 3}),
        (8, {"logging_steps": 3}),
        (5, {"logging_strategy": "epoch", "eval_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2}),
        (6, {"logging_strategy": "epoch", "eval_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2}),
        (8, {"logging_strategy": "epoch", "eval_strategy": "epoch"}),
        (4, {"logging_steps": 3, "gradient_accumulation_steps": 2}),
    ],
    ids=str,
)
def test_history_of_a_resumed_run(step, settings, model, data, tokenizer, tmp_path):
    compare(model, data, tokenizer, tmp_path, step, **{**STEPS, **settings})


@pytest.mark.parametrize("step", [3, 6])
def test_history_of_a_resumed_stream(step, model, tokenizer, tasks, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks = model.config.tasks
    data = prepare_datasets({"train": str(path), "validation": ROWS[:10]}, tokenizer, tasks, streaming=True)
    settings = {
        "max_steps": 6,
        "logging_steps": 4,
        "eval_strategy": "epoch",
        "save_strategy": "steps",
        "save_steps": 3,
    }
    compare(model, data, tokenizer, tmp_path, step, **settings)


def test_gap_is_watched_alike_after_a_resume(model, data, tokenizer, tmp_path):
    schedule = {"stages": [{"train": "heads", "until": {"metric": "loss", "watch_gap": True}}, {"train": "all"}]}
    settings = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 3}
    compare(model, data, tokenizer, tmp_path, 3, schedule, **settings, logging_steps=50)


# With rates of 0, no evaluation is better than the first: the run ends with the third.
STOPPING = {
    "max_steps": 36,
    "learning_rate": 0.0,
    "head_learning_rate": 0.0,
    "logging_strategy": "epoch",
    "load_best_model_at_end": True,
    "early_stopping_patience": 2,
}


# Evaluated and saved at the end of each epoch of 6 steps, or in the middle of an epoch too.
EACH_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch"}
HALF_EPOCHS = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}


@pytest.mark.parametrize(("step", "settings"), [(12, EACH_EPOCH), (18, EACH_EPOCH), (6, HALF_EPOCHS)])
def test_early_stop_of_a_resumed_run(step, settings, model, data, tokenizer, tmp_path):
    compare(model, data, tokenizer, tmp_path, step, **{**STOPPING, **settings})
    last = 18 if settings is EACH_EPOCH else 9
    assert {path.name for path in (tmp_path / "killed").glob("checkpoint-*")} >= {f"checkpoint-{last}"}
    assert not (tmp_path / "killed" / f"checkpoint-{last + 3}").exists()


def test_infinite_sums_are_kept(model, data, tokenizer, tmp_path):
    """The scaler of fp16 skips a step with an infinite loss, whose sum a checkpoint then has."""
    trainer = make_trainer(model, data, tokenizer, tmp_path, max_steps=1)
    trainer.train()
    sums, infinite = trainer.callbacks.logged_sums, LossSums(float("inf"), float("inf"), 1)
    trainer._set_loss_sums(infinite)
    sums.save(str(tmp_path), 0)
    trainer._set_loss_sums(LossSums(0.0, 0.0, 0))
    sums.begin(str(tmp_path), 0)
    sums.on_train_begin(trainer.args, trainer.state, trainer.control)
    assert trainer._loss_sums() == infinite


def test_early_stop_of_a_run_that_was_started_without(model, data, tokenizer, tmp_path):
    settings = {**STOPPING, **EACH_EPOCH}
    first = {**settings, "early_stopping_patience": None, "max_steps": 12}
    make_trainer(model, data, tokenizer, tmp_path, **first).train()
    trainer = make_trainer(model, data, tokenizer, tmp_path, **settings)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert trainer.state.global_step == 18
