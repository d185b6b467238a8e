"""A model for each training: ``model_init`` and the Trainer's hyperparameter search."""

import dataclasses
from functools import partial

import optuna
import pytest
import torch

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments, prepare_datasets
from tests.tiny import ROWS
from tests.trainers import DEFAULTS, without_dropout

HEADS = ("linear", "lstm")
SCHEDULES = ("none", "encoder", "heads-then-all")


@pytest.fixture
def data(tokenizer, tasks):
    return prepare_datasets({"train": ROWS, "validation": ROWS[:9]}, tokenizer, tasks)


@pytest.fixture
def make(data, tokenizer, encoder, tmp_path):
    """Return a function that makes a trainer whose models and schedules follow a trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def model_init(trial):
        head, weight = of_trial(trial, "head", HEADS), of_trial(trial, "loss_weight", (1.0, 0.3))
        intent, slots = data.tasks
        tasks = [intent, dataclasses.replace(slots, head=head, loss_weight=weight)]
        return MultiTaskModel.from_encoder(encoder, tasks[: of_trial(trial, "num_tasks", (2, 1))])

    def make(folder="out", trainer=MultiTaskTrainer, arguments=None, **given):
        arguments = {
            **DEFAULTS,
            "num_train_epochs": 3,
            "eval_strategy": "epoch",
            "logging_steps": 1,
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss",
            # Whether reading states pays depends on what earlier runs have stored.
            "store_frozen": "never",
            **(arguments or {}),
        }
        defaults = {
            "model_init": model_init,
            "args": MultiTaskTrainingArguments(str(tmp_path / folder), **arguments),
            "freeze_schedule": lambda trial: of_trial(trial, "freeze", SCHEDULES),
            "train_dataset": data["train"],
            "eval_dataset": data["validation"],
            "processing_class": tokenizer,
        }
        return trainer(**{**defaults, **given})

    return make


def of_trial(trial, name, choices):
    """Return what a trial says, or the first choice outside of a search."""
    return choices[0] if trial is None else trial.suggest_categorical(name, choices)


def hp_space(trial):
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "head_learning_rate": trial.suggest_float("head_learning_rate", 1e-3, 1e-1, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", (2, 8)),
        "ema_decay": trial.suggest_categorical("ema_decay", (0.2, 0.9)),
    }


class Recorder(MultiTaskTrainer):
    """Keeps the weights and the log of each training."""

    def __init__(self, **given):
        self.trained = []
        super().__init__(**given)

    def train(self, *args, **kwargs):
        result = super().train(*args, **kwargs)
        weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.trained.append((weights, stable(self.state.log_history)))
        return result


def stable(history):
    """Return a log without what the clock decides."""
    return [
        {key: value for key, value in entry.items() if not key.endswith(("runtime", "per_second"))}
        for entry in history
    ]


def assert_equal(found, expected):
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for name, weight in found[0].items():
        assert torch.equal(weight, expected[0][name]), name


def search(trainer, n_trials, **options):
    """Run a search that keeps its study, and return the trials."""

    def objective(metrics):
        return metrics["eval_loss"]

    storage = optuna.storages.InMemoryStorage()
    best = trainer.hyperparameter_search(
        hp_space, objective, n_trials, backend="optuna", storage=storage, study_name="study", **options
    )
    return best, optuna.load_study(study_name="study", storage=storage).trials


def test_model_init_trains_as_a_model_does(make, data, encoder):
    def model_init():
        return without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks))

    given = {"trainer": Recorder, "freeze_schedule": "heads-then-all", "arguments": {"ema_decay": 0.5}}
    first = make("a", model_init=model_init, **given)
    torch.manual_seed(first.args.seed)
    plain = make("b", model_init=None, model=model_init(), **given)
    first.train()
    model = first.model
    first.train()
    plain.train()
    assert first.model is not model
    for run in first.trained:
        assert_equal(run, plain.trained[0])
    assert first.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


def train_separately(make, trainer, trial):
    """Train with the values of a trial in a trainer of its own, and return what that has recorded."""
    fixed = optuna.trial.FixedTrial(trial.params)
    separate = make(
        f"separate-{trial.number}",
        Recorder,
        arguments=hp_space(fixed),
        model_init=partial(trainer.model_init, fixed),
        freeze_schedule=trial.params["freeze"],
    )
    separate.train()
    return separate.trained[0]


def test_trials_equal_separate_runs(make):
    trainer = make("search", Recorder)
    sampler, pruner = optuna.samplers.RandomSampler(3), optuna.pruners.NopPruner()
    best, trials = search(trainer, 8, sampler=sampler, pruner=pruner)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    assert int(best.run_id) == min(trials, key=lambda trial: trial.value).number
    for name, choices in (("head", HEADS), ("freeze", SCHEDULES), ("num_tasks", (1, 2)), ("ema_decay", (0.2, 0.9))):
        assert {trial.params[name] for trial in trials} == set(choices)
    for trial, found in zip(trials, trainer.trained, strict=True):
        assert_equal(found, train_separately(make, trainer, trial))


def test_a_trial_keeps_its_stages_beside_its_checkpoints(make, tmp_path):
    search(make(freeze_schedule="heads-then-all"), 2)
    for number in range(2):
        assert {"stages.json", "freeze_schedule.json"} <= {
            path.name for path in (tmp_path / f"out/run-{number}").iterdir()
        }
    assert not (tmp_path / "out/stages.json").exists()


def test_a_bad_trial_is_pruned(make):
    pruner = optuna.pruners.ThresholdPruner(upper=0.0)
    trainer = make()
    with pytest.raises(ValueError, match="No trials are completed yet"):
        search(trainer, 2, pruner=pruner)
    trainer.train()
    assert trainer.state.epoch == 3


def test_persistent_workers_follow_the_tasks_of_a_trial(make):
    """The model of the first training has one task, that of the second two."""
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "num_train_epochs": 1}
    of_constructor_and_trainings = iter((1, 1, 2))
    init = make().model_init

    def model_init():
        return init(
            optuna.trial.FixedTrial(
                {"head": "linear", "loss_weight": 1.0, "num_tasks": next(of_constructor_and_trainings)}
            )
        )

    trainer = make("workers", model_init=model_init, freeze_schedule=None, arguments=workers)
    found = []
    for _ in range(2):
        trainer.train()
        found.append(trainer.evaluate())
    assert found[0]["eval_loss"] == pytest.approx(found[0]["eval_intent_loss"])
    assert "eval_slots_f1" not in found[0]
    assert found[1]["eval_loss"] == pytest.approx(found[1]["eval_intent_loss"] + found[1]["eval_slots_loss"])


class SecondTrialPruner(optuna.pruners.BasePruner):
    """Prunes the second trial when it reports its second evaluation."""

    def prune(self, study, trial):
        return trial.number == 1 and len(trial.intermediate_values) == 2


def test_a_trial_is_pruned_by_its_evaluations_and_leaves_nothing_to_the_next(make):
    trainer = make("pruned", Recorder)
    sampler = optuna.samplers.RandomSampler(3)
    _, trials = search(trainer, 3, sampler=sampler, pruner=SecondTrialPruner())
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert [len(trial.intermediate_values) for trial in trials] == [3, 2, 3]
    kept = [trial for trial in trials if trial.state.name == "COMPLETE"]
    for trial, found in zip(kept, trainer.trained, strict=True):
        assert_equal(found, train_separately(make, trainer, trial))


def test_trials_share_rows_and_cached_states(make, data, tmp_path):
    """The first trial computes the states of the frozen encoder, and the others read them."""
    arguments = {"store_frozen": "always", "store_dir": str(tmp_path / "states")}
    trainer = make("cached", freeze_schedule="encoder", arguments=arguments)
    written = []

    def objective(metrics):
        files = (path for path in (tmp_path / "states").rglob("*") if path.suffix != ".lock")
        written.append({(path.name, path.stat().st_mtime_ns) for path in files if path.is_file()})
        return metrics["eval_loss"]

    trainer.hyperparameter_search(lambda trial: {}, objective, n_trials=3, backend="optuna")
    assert written[0]
    assert {name for name, _ in written[-1]} == {name for name, _ in written[0]}
    assert trainer.train_dataset is data["train"]


def test_a_trial_that_freezes_everything_is_evaluated(make, caplog):
    _, trials = search(make(freeze_schedule=lambda trial: "none" if trial is None else "all"), 1)
    assert trials[0].value > 0
    assert "Every group is frozen" in caplog.text


@pytest.mark.parametrize(
    ("space", "message"),
    [({"ema_decay": 1.5}, "ema_decay must be a number in"), ({"store_frozen": "yes"}, "store_frozen")],
)
def test_arguments_of_a_trial_are_checked(make, space, message):
    trainer = make()
    with pytest.raises(ValueError, match=message):
        trainer.hyperparameter_search(lambda trial: space, n_trials=1, backend="optuna")


def test_a_model_is_needed_and_only_one(make, data, encoder):
    with pytest.raises(RuntimeError, match="requires either a `model` or `model_init`"):
        make(model_init=None)
    with pytest.raises(ValueError, match="not both"):
        make(model=MultiTaskModel.from_encoder(encoder, data.tasks))
    plain = make(model_init=None, model=MultiTaskModel.from_encoder(encoder, data.tasks), freeze_schedule=None)
    with pytest.raises(RuntimeError, match="model_init function"):
        plain.hyperparameter_search(hp_space, backend="optuna")
