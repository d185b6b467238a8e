"""Cross-validation of a run: a training for each fold, and one model of all rows."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data import PreparedData
from ..models.type_aliases import JsonObject
from ..reports.split_result import SplitResult
from ..reports.training_curves import main_metric
from ..runtime.atomic_files import write_json
from ..runtime.fold_scores import FoldResult, FoldScores
from ..runtime.memory import free_memory
from ..runtime.training_history import TrainingHistory
from ..training.trainer import MultiTaskTrainer
from .build import build_trainer, load_parts
from .chosen_settings import completed_config, settings_of
from .config import RunConfig
from .evaluation import score_split
from .outcome import find_problems
from .output_dir import FOLDS_FOLDER, FOLDS_NAME, find_last_checkpoint

logger = logging.getLogger(__name__)

# Training arguments that the scores of a fold do not depend on.
OTHER_ARGUMENTS = ("disable_tqdm", "logging_steps", "push_to_hub", "report_to", "run_name", "store_dir")

OnFold = Callable[[FoldScores], None]
"""Called after each fold, with the scores so far."""

OnScored = Callable[[SplitResult], None]
"""Called with the result of each training on the rows of its fold."""


class StopAfterCallback(TrainerCallback):
    """Callback that ends a training early, with the learning-rate schedule of the whole.

    Args:
        epochs: Number of epochs; None for no limit.
        steps: Number of optimizer steps; None for no limit.
    """

    def __init__(self, epochs: float | None = None, steps: int | None = None) -> None:
        self.epochs = epochs
        self.steps = steps
        self._resumed_at_end = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take no step if the training is resumed at its end."""
        self._resumed_at_end = self._is_over(state)
        if self._resumed_at_end:
            control.should_training_stop = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop if the number of epochs or steps is reached."""
        if self._is_over(state):
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the checkpoint that the training is resumed from."""
        if self._resumed_at_end:
            control.should_log = control.should_save = False

    def _is_over(self, state: TrainerState) -> bool:
        # The epoch is a sum of fractions.
        by_epochs = self.epochs is not None and (state.epoch or 0) >= self.epochs - 1e-6
        return by_epochs or (self.steps is not None and state.global_step >= self.steps)


def cross_validate(
    config: RunConfig,
    data: PreparedData | None = None,
    resume: bool = False,
    on_fold: OnFold | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> FoldScores:
    """Train a model for each fold and score it on the fold.

    Each training starts from the same weights and seed, and has the fold as its validation rows. Its checkpoints are
    removed at its end. The scores of finished folds are in ``folds.json`` in the folder of the run.

    Args:
        config: Config of the run, with ``data.folds``. Settings that it leaves out are chosen once for all folds.
        data: Prepared data of the config. Prepared here if None.
        resume: Whether to keep the finished folds in the folder of the run, and to resume the next one from its last
            checkpoint.
        on_fold: Called after each fold, also after those that were finished before. What it raises ends the training.
        callbacks: More callbacks of the trainers.

    Returns:
        The scores.

    Raises:
        ValueError: If the config or the data is invalid, or the finished folds are those of another config.
    """
    parts = load_parts(config, data)
    config, data = completed_config(config, settings_of(config, parts.facts)), parts.data
    del parts
    return train_folds(config, data, resume, on_fold, callbacks)


def train_folds(
    config: RunConfig,
    data: PreparedData,
    resume: bool = False,
    on_fold: OnFold | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
) -> FoldScores:
    """Train a model for each fold, with a config that gives each setting; see `cross_validate`."""
    if data.folds is None:
        raise ValueError("data.folds is missing; expected a number of folds, such as 5.")
    folder = Path(config.output_dir)
    digest = _digest(config, data)
    finished = _read_finished(folder / FOLDS_NAME, digest) if resume else []
    results: list[FoldResult] = []
    for number in range(data.folds.number):
        if number < len(finished):
            results.append(finished[number])
        else:
            result, scored = _train_fold(config, data, number, resume, callbacks)
            results.append(result)
            if on_scored is not None:
                on_scored(scored)
            del scored
            if PartialState().is_main_process:
                write_json(folder / FOLDS_NAME, {"config": digest, **FoldScores(results).to_dict()})
                shutil.rmtree(folder / FOLDS_FOLDER, ignore_errors=True)
        logger.info("%s", _describe(results[-1], data))
        if on_fold is not None:
            on_fold(FoldScores(results))
    return FoldScores(results)


def build_final_trainer(
    config: RunConfig, data: PreparedData, scores: FoldScores, callbacks: Sequence[TrainerCallback] = ()
) -> tuple[MultiTaskTrainer, PreparedData]:
    """Build the trainer of all rows, which trains as long as the folds' best weights were trained.

    The learning-rate schedule is that of the folds: a model that was best after 7 of 10 epochs had not reached the end
    of its schedule either.

    Args:
        config: Config of the run, which gives each setting.
        data: The prepared data, with folds.
        scores: Scores of the folds.
        callbacks: More callbacks of the trainer.

    Returns:
        The trainer, and the data without folds.
    """
    # Before the trainer is built, as building them resets the state of accelerate.
    args = config.training_arguments()
    trainer, data = build_trainer(final_config(config), replace(data, folds=None), callbacks)
    if args.max_steps > 0:
        steps = max(round(scores.steps), 1)
        stop, length = StopAfterCallback(steps=steps), f"{steps:,} steps"
    else:
        epochs = max(round(scores.epochs), 1) if args.eval_strategy == "epoch" else round(scores.epochs, 2)
        stop, length = StopAfterCallback(epochs=epochs), f"{epochs:g} epochs"
    trainer.add_callback(stop)
    logger.info("All %s rows: %s, the mean of the folds' best.", f"{data.reports['train'].rows:,}", length)
    return trainer, data


def final_config(config: RunConfig) -> RunConfig:
    """Return the config of the training on all rows, which has no validation rows."""
    training: JsonObject = {**config.training, "eval_strategy": "no", "load_best_model_at_end": False}
    training["early_stopping_patience"] = None
    if training.get("save_strategy") == "best":
        training["save_strategy"] = "epoch"
    return replace(config, training=training)


def check_final_schedule(trainer: MultiTaskTrainer) -> None:
    """Check that the freeze schedule works without validation rows.

    Args:
        trainer: Trainer of a fold.

    Raises:
        ValueError: If a stage watches a metric.
    """
    schedule = trainer.resolve_schedule()
    if schedule.needs_evaluation:
        names = ", ".join(repr(stage.name) for stage in schedule.stages)
        raise ValueError(
            f"data.folds: the last model is trained on all rows, without validation rows, but a stage of the freeze "
            f"schedule ({names}) watches a metric on them. Give the stages a length in epochs, or give validation "
            "instead of folds."
        )


def read_fold_scores(output_dir: str | Path) -> FoldScores | None:
    """Read the scores of a run's folds.

    Args:
        output_dir: Folder of the run.

    Returns:
        The scores; None if the run has no folds.
    """
    path = Path(output_dir, FOLDS_NAME)
    return FoldScores.from_dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _train_fold(
    config: RunConfig, data: PreparedData, number: int, resume: bool, callbacks: Sequence[TrainerCallback]
) -> tuple[FoldResult, SplitResult]:
    start = time.perf_counter()
    folder = Path(config.output_dir, FOLDS_FOLDER, str(number + 1))
    training = {**config.training, "report_to": "none", "push_to_hub": False}
    trainer, fold = build_trainer(
        replace(config, output_dir=str(folder), training=training), data.fold(number), callbacks
    )
    checkpoint = find_last_checkpoint(folder) if resume else None
    if checkpoint is None and PartialState().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    PartialState().wait_for_everyone()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    scored = score_split(trainer, fold, "validation")
    state = trainer.state
    for problem in find_problems(fold.tasks, state.log_history, state.global_step, {"validation": scored}):
        if trainer.is_world_process_zero():
            logger.warning("Fold %d: %s", number + 1, problem)
    kept = state.best_global_step if trainer.args.load_best_model_at_end else None
    evaluation = TrainingHistory(state.log_history).kept_evaluation(kept) if kept is not None else None
    epochs = state.epoch if evaluation is None or evaluation.epoch is None else evaluation.epoch
    result = FoldResult(
        fold=number + 1,
        rows=fold.reports["validation"].rows,
        metrics=dict(scored.metrics),
        epochs=float(epochs or 0),
        steps=state.global_step if kept is None else kept,
        seconds=time.perf_counter() - start,
    )
    del trainer
    free_memory()
    return result, scored


def _describe(result: FoldResult, data: PreparedData) -> str:
    names = [f"{task.name}_{main_metric(task)}" for task in data.tasks]
    scores = ", ".join(f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)
    number = result.fold if data.folds is None else f"{result.fold} of {data.folds.number}"
    kept = f"epoch {result.epochs:.3g} kept, {result.seconds:,.0f} seconds"
    return f"Fold {number}: {scores} on {result.rows:,} rows; {kept}."


def _digest(config: RunConfig, data: PreparedData) -> str:
    """Return a digest of everything that the scores of the folds depend on."""
    values = {
        item.name: getattr(config, item.name) for item in fields(config) if item.name not in ("data", "output_dir")
    }
    values["tasks"] = [task.to_dict() for task in data.tasks]
    values["sampling"] = asdict(config.sampling)
    values["training"] = {name: value for name, value in config.training.items() if name not in OTHER_ARGUMENTS}
    values["folds"] = None if data.folds is None else list(data.folds.fold_of)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _read_finished(path: Path, digest: str) -> list[FoldResult]:
    """Return the results of the folds that are finished."""
    if not path.is_file():
        return []
    values = json.loads(path.read_text(encoding="utf-8"))
    if values["config"] != digest:
        raise ValueError(
            f"--resume: {path}: the finished folds were trained with another config or other rows. Use the same "
            "config and data, or --overwrite to train all folds again."
        )
    return list(FoldScores.from_dict(values).folds)
