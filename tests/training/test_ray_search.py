"""The Trainer's hyperparameter search with Ray: each trial trains in a process of Ray."""

import dataclasses
import json

import pytest
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments, prepare_datasets
from tests.tiny import ROWS
from tests.trainers import DEFAULTS

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hf-multitask[ray]'")
tune = pytest.importorskip("ray.tune", reason="Ray has no tune: pip install 'hf-multitask[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    """Start Ray on one core, without its dashboard and its token in the home folder."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # The processes of the trials would yield to every other test.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray.init(num_cpus=1, include_dashboard=False)
    yield
    ray.shutdown()


class StoppedError(Exception):
    """The end of a training in the middle of an epoch."""


class Interrupt(TrainerCallback):
    """End a training at its first step, as an error of a user's callback would."""

    def on_step_end(self, args, state, control, **kwargs):
        raise StoppedError


@pytest.mark.distributed
@pytest.mark.slow
def test_a_search_after_a_failed_training(cluster, encoder, tokenizer, tasks, tmp_path):
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:9]}, tokenizer, tasks)

    def model_init(trial):
        intent, slots = data.tasks
        head = "linear" if trial is None else trial["head"]
        return MultiTaskModel.from_encoder(encoder, [intent, dataclasses.replace(slots, head=head)])

    def hp_space(trial):
        return {
            "learning_rate": tune.loguniform(1e-4, 1e-2),
            "head": tune.choice(["linear", "lstm"]),
            "freeze": tune.grid_search(["none", "heads-then-all"]),
        }

    settings = {**DEFAULTS, "num_train_epochs": 2, "eval_strategy": "epoch", "store_frozen": "never", "use_cpu": True}
    trainer = MultiTaskTrainer(
        model_init=model_init,
        args=MultiTaskTrainingArguments(str(tmp_path / "out"), **settings),
        freeze_schedule=lambda trial: "none" if trial is None else trial["freeze"],
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
    )
    failed = MultiTaskTrainer(
        MultiTaskModel.from_encoder(encoder, data.tasks),
        MultiTaskTrainingArguments(str(tmp_path / "failed"), **settings),
        freeze_schedule="none",
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        callbacks=[Interrupt()],
        processing_class=tokenizer,
    )
    with pytest.raises(StoppedError):
        failed.train()
    best = trainer.hyperparameter_search(
        hp_space, lambda metrics: metrics["eval_loss"], n_trials=1, backend="ray", storage_path=str(tmp_path / "ray")
    )
    trials = best.run_summary.trials
    assert [trial.status for trial in trials] == ["TERMINATED"] * 2
    assert {trial.config["freeze"] for trial in trials} == {"none", "heads-then-all"}
    assert best.objective == min(trial.last_result["eval_loss"] for trial in trials)
    for trial in trials:
        stages = json.loads((tmp_path / "out" / f"run-{trial.trial_id}" / "stages.json").read_text())["stages"]
        expected = {"none": ["all"], "heads-then-all": ["heads", "all"]}
        assert [stage["name"] for stage in stages] == expected[trial.config["freeze"]]
