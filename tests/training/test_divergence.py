"""A training that diverges stops, names step and task, and leaves no broken weights behind."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_utils import HPSearchBackend

from hf_multitask.training.divergence import DivergenceError
from tests.trainers import make_trainer


class Break(TrainerCallback):
    """Makes a weight, or its gradient, not finite at a step."""

    def __init__(self, step, group, gradient=False):
        self.step, self.group, self.gradient = step, group, gradient

    def weight(self, model):
        return next(weight for name, weight in model.named_parameters() if self.group in name)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step and not self.gradient:
            self.weight(model).data.fill_(math.nan)

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step and self.gradient:
            self.weight(model).grad.fill_(math.inf)


class BreakLast(TrainerCallback):
    """Makes a weight infinite after the last step."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == state.max_steps - 1:
            next(model.parameters()).data[-1].fill_(math.inf)


def steps(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_accumulation_steps": 2}, {"bf16": True, "use_cpu": True}, {"logging_nan_inf_filter": True}],
    ids=str,
)
def test_first_loss_that_is_not_finite_is_named(settings, model, data, tokenizer, tmp_path):
    settings = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, "logging_steps": 50, **settings}
    given = {"callbacks": [Break(2, "heads.intent")]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, given=given, **settings)
    with pytest.raises(
        DivergenceError, match=r"step 3: the loss of task 'intent' is not finite.*checkpoint-2 is from"
    ):
        trainer.train()
    # Step 4 would have written a checkpoint.
    assert steps(tmp_path) == ["checkpoint-2"]
    weights = load_file(tmp_path / "checkpoint-2" / "model.safetensors").values()
    assert all(weight.isfinite().all() for weight in weights)


def test_gradients_that_are_not_finite_are_named_at_their_step(model, data, tokenizer, tmp_path):
    settings = {"max_steps": 9, "logging_steps": 50, "gradient_accumulation_steps": 2}
    given = {"callbacks": [Break(1, "encoder", gradient=True)]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, given=given, **settings)
    with pytest.raises(DivergenceError, match=r"step 2: the norm of the gradients is not finite.*no checkpoint"):
        trainer.train()


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_weights_are_checked_before_they_are_saved_and_at_the_end(strategy, model, data, tokenizer, tmp_path):
    settings = {"max_steps": 3, "save_strategy": strategy, "save_steps": 3}
    trainer = make_trainer(model, data, tokenizer, tmp_path, given={"callbacks": [BreakLast()]}, **settings)
    with pytest.raises(DivergenceError, match="step 3: the weights are not finite"):
        trainer.train()
    assert steps(tmp_path) == []


def test_steps_are_counted_over_many_steps_and_stages(model, data, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_multitask.training.divergence._STEPS_AT_ONCE", 3)
    schedule = {"stages": [{"train": "heads", "steps": 4}, {"train": "all"}]}
    settings = {"max_steps": 14, "num_train_epochs": 1, "per_device_train_batch_size": 1, "logging_steps": 50}
    given = {"callbacks": [Break(11, "heads.intent")]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, schedule, given, **settings)
    with pytest.raises(DivergenceError, match="step 12: the loss of task 'intent'"):
        trainer.train()


def test_a_finite_training_logs_as_before(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, max_steps=3, logging_steps=1)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [1, 2, 3]
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_trial_of_a_search_is_pruned(model, data, tokenizer, tmp_path):
    optuna = pytest.importorskip("optuna")
    given = {"callbacks": [Break(1, "heads.intent")]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, given=given, max_steps=3)
    trainer.hp_search_backend = HPSearchBackend.OPTUNA
    with pytest.raises(optuna.TrialPruned, match="step 2: the loss of task 'intent' is not finite"):
        trainer.train()
