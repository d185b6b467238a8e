"""Training of one trial, on data that all trials share."""

import math
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..data import PreparedData
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runs.build import build_trainer
from ..runs.config import RunConfig
from ..runs.preparation import prepare_run_data
from ..runtime.memory import free_memory
from ..training.divergence import DivergenceError
from .parameters import DATA_FIELDS, TASK_FIELDS, apply_values
from .search import ClaimedTrial

STATES_FOLDER = "states"
# Trials of different lengths are compared at these parts of their run.
NUM_PARTS = 5


class PruningCallback(TrainerCallback):
    """Reports the best score so far to Optuna, and stops a trial that others have left behind or whose time is up.

    A run of few rows is evaluated in its last epochs only (``eval_delay``). So that bad trials end early, they are
    evaluated after each part of the run too. These evaluations change neither the training nor the value of a trial.

    Args:
        claimed: The trial.
        metric: Name of the metric, without ``eval_``.
        maximize: Whether a greater value is better.
        reports: Whether to report scores; with folds, their means are reported instead.

    Attributes:
        evaluates_parts: Whether to evaluate after each part. Not in runs that act on every evaluation.
    """

    def __init__(self, claimed: ClaimedTrial, metric: str, maximize: bool, reports: bool = True) -> None:
        self.reports = reports
        self.claimed = claimed
        self.metric = metric
        self._better_of = max if maximize else min
        self.best: float | None = None
        self.last: float | None = None
        self.reported = 0
        self.evaluates_parts = False
        self._best_reported: float | None = None
        self._random_state: list[torch.Tensor] | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Stop the trial if the time of the search is up.

        Raises:
            optuna.TrialPruned: If it is.
        """
        import optuna

        # The config itself is always trained to its end: every other trial is compared with it.
        if not self.claimed.is_base and time.monotonic() > self.claimed.end:
            raise optuna.TrialPruned

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Evaluate after a part of the run if the run itself does not."""
        if self.evaluates_parts and not control.should_evaluate and self._new_part(state) is not None:
            control.should_evaluate = True
            self._random_state = _random_state()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Report the score of an evaluation.

        Raises:
            ValueError: If the evaluation does not have the metric.
            optuna.TrialPruned: If the trial is worse than the median of the others at this part of the run.
        """
        import optuna

        names = [name.removeprefix("eval_") for name in metrics or {}]
        if self.metric not in names:
            raise ValueError(unknown_name_message("metric of the validation rows", self.metric, names))
        score = (metrics or {})[f"eval_{self.metric}"]
        if math.isnan(score):
            raise optuna.TrialPruned
        if self._random_state is None:
            self.last = score
            self.best = self._better(self.best, score)
        else:
            _restore(self._random_state)
            self._random_state = None
        self._best_reported = self._better(self._best_reported, score)
        part = self._new_part(state)
        if not self.reports or part is None:
            return
        self.reported = part
        self.claimed.trial.report(self._best_reported, part)
        if not self.claimed.is_base and self.claimed.trial.should_prune():
            raise optuna.TrialPruned

    def _new_part(self, state: TrainerState) -> int | None:
        """Return the part of the run that has ended; None if its score is reported, or the run is at its end."""
        part = int(NUM_PARTS * state.global_step / state.max_steps)
        return part if self.reported < part < NUM_PARTS else None

    def _better(self, best: float | None, score: float) -> float:
        return score if best is None else self._better_of(best, score)


class TrialTraining:
    """Trains the trials of a search.

    Args:
        config: Config with all settings, from which the search starts.
        data: Its prepared data.
        folder: Folder of the search.
        metric: Name of the metric, without ``eval_``.
        maximize: Whether a greater value is better.
    """

    def __init__(self, config: RunConfig, data: PreparedData, folder: Path, metric: str, maximize: bool) -> None:
        self.config = config
        self.folder = folder
        self.metric = metric
        self.maximize = maximize
        arguments = config.training_arguments()
        self.keeps_best = arguments.load_best_model_at_end
        self.stops_early = arguments.early_stopping_patience is not None
        self._prepared = {_data_key(config): data}

    def config_of(self, claimed: ClaimedTrial) -> RunConfig:
        """Return the config of a trial, which trains to the same score by itself."""
        return self.config if claimed.is_base else apply_values(self.config, claimed.values)

    def train(self, claimed: ClaimedTrial) -> float:
        """Train a trial and return its value: the score that the model of the run would have.

        With folds, the value is the mean over them, and the trial may be stopped after each.

        Args:
            claimed: The trial.

        Raises:
            ValueError: If its config is not valid.
            optuna.TrialPruned: If it is stopped, or diverges.
        """
        import optuna

        working = self.folder / f"training-{claimed.trial.number}"
        try:
            config = self._without_files(self.config_of(claimed), working)
            data = self._data_of(config)
            if data.folds is None:
                return self._score(config, data, PruningCallback(claimed, self.metric, self.maximize))
            return self._score_folds(config, data, data.folds.number, claimed)
        except DivergenceError as error:
            raise optuna.TrialPruned(str(error)) from error
        except ValueError as error:
            raise ValueError(f"trial {claimed.trial.number}: {error}") from error
        finally:
            shutil.rmtree(working, ignore_errors=True)
            free_memory()

    def _score(self, config: RunConfig, data: PreparedData, callback: PruningCallback) -> float:
        trainer, _ = build_trainer(config, data, [callback])
        schedule = trainer.freeze_schedule
        acts_on_each = trainer.args.early_stopping_patience is not None or (schedule and schedule.needs_evaluation)
        is_delayed = trainer.args.eval_strategy == IntervalStrategy.EPOCH and trainer.args.eval_delay > 0
        callback.evaluates_parts = callback.reports and is_delayed and not acts_on_each
        trainer.train()
        value = callback.best if self.keeps_best else callback.last
        return trainer.evaluate()[f"eval_{self.metric}"] if value is None else value

    def _score_folds(self, config: RunConfig, data: PreparedData, num_folds: int, claimed: ClaimedTrial) -> float:
        import optuna

        values: list[float] = []
        for fold in range(num_folds):
            callback = PruningCallback(claimed, self.metric, self.maximize, reports=False)
            values.append(self._score(config, data.fold(fold), callback))
            if fold + 1 < num_folds:
                claimed.trial.report(statistics.fmean(values), fold + 1)
                if not claimed.is_base and claimed.trial.should_prune():
                    raise optuna.TrialPruned
        return statistics.fmean(values)

    def _without_files(self, config: RunConfig, working: Path) -> RunConfig:
        """Return the config of a trial that keeps no model."""
        training: JsonObject = {
            **config.training,
            "disable_tqdm": True,
            "report_to": "none",
            "push_to_hub": False,
            "save_only_model": True,
            "save_total_limit": 1,
            # Trials share the states of frozen layers.
            "store_dir": config.training.get("store_dir") or str(self.folder / STATES_FOLDER),
        }
        if not self.stops_early:
            # The scores of all evaluations are known, so the best weights are not needed.
            training |= {"save_strategy": "no", "load_best_model_at_end": False}
        return replace(config, training=training, output_dir=str(working))

    def _data_of(self, config: RunConfig) -> PreparedData:
        """Return the prepared data of a trial, with its tasks."""
        key = _data_key(config)
        if key not in self._prepared:
            tokenizer = config.load_tokenizer()
            self._prepared[key] = prepare_run_data(config, config.training_arguments(), tokenizer, config.tasks)
        data, tasks = self._prepared[key], {task.name: task for task in config.tasks}
        tuned = [
            replace(task, **{name: getattr(tasks[task.name], name) for name in TASK_FIELDS}) for task in data.tasks
        ]
        return replace(data, tasks=tuned)


def _random_state() -> list[torch.Tensor]:
    """Return the state of torch's random generators: the CPU's, then those of the GPUs."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def _restore(states: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    torch.cuda.set_rng_state_all(states[1:])


def _data_key(config: RunConfig) -> str:
    """Return what the tokenized rows of a config depend on."""
    settings = [[getattr(item, name) for name in DATA_FIELDS] for item in config.data_configs]
    return repr((config.encoder, config.tokenizer, settings))
