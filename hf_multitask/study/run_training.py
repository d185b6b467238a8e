"""One run of a study: its config, its training, and what it gave."""

import gc
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..data import PreparedData
from ..freezing.distillation import drift, drift_sample, encode_sample
from ..freezing.stage import greater_is_better
from ..freezing.stage_results import read_stage_results
from ..models import TaskConfig
from ..reports.training_report import HISTORY_NAME
from ..runs.build import build_trainer
from ..runs.config import RunConfig
from ..runtime.atomic_files import write_json
from ..runtime.training_history import Evaluation, TrainingHistory, select_metrics
from ..training.card_facts import final_metrics
from ..training.metrics import task_metric_names
from ..training.trainer import MultiTaskTrainer
from .disk import explain_full_disk
from .records import read_record, write_record
from .row_scores import metric_name, row_scores
from .study_plan import PlannedRun, StudyPlan
from .study_results import Forgetting, FrozenTask, RunResult
from .subsets import labels_of, nested_order

MODEL_FOLDER = "model"
# What the trainer writes while it trains; nothing of it is needed afterwards.
WORKING_FOLDER = "training"


class StopAfter(TrainerCallback):
    """Stops a training when its time is over, behind an evaluation.

    Args:
        minutes: The time.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.out_of_time = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.end = time.perf_counter() + self.seconds

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop where the time is over."""
        if time.perf_counter() >= self.end and state.global_step < state.max_steps:
            self.out_of_time = True
            control.should_training_stop = True
            if args.eval_strategy == IntervalStrategy.STEPS:
                # At the end of an epoch, and that is now one, the Trainer evaluates and saves by itself.
                control.should_evaluate = control.should_save = True


class StudyData:
    """The prepared data of a study, and the rows and tasks that a run takes of them.

    Args:
        data: All of it.
    """

    def __init__(self, data: PreparedData) -> None:
        self.data = data
        self._orders: dict[int, list[int]] = {}
        self._labels: list[set[str]] | None = None

    def take(self, run: PlannedRun) -> PreparedData:
        """Return what a run trains on.

        The labels of the tasks stay those of all training rows, so that each size has the same heads.

        Args:
            run: The run.
        """
        train: Any = self.data["train"]
        tasks = self.data.tasks
        if run.size < len(train):
            # In the order of the file, as all rows would be.
            train = train.select(sorted(self._order(run.seed)[: run.size]))
        if run.scenario.only_task is not None:
            tasks = [task for task in tasks if task.name == run.scenario.only_task]
        return replace(self.data, splits={**self.data.splits, "train": train}, tasks=tasks)

    def _order(self, seed: int) -> list[int]:
        if self._labels is None:
            self._labels = labels_of(self.data["train"], self.data.tasks)
        if seed not in self._orders:
            self._orders[seed] = nested_order(self._labels, seed)
        return self._orders[seed]


def train_run(plan: StudyPlan, run: PlannedRun, data: StudyData) -> RunResult:
    """Train a run and keep what it gave.

    Args:
        plan: The study.
        run: The run; the one that it starts from is finished.
        data: The data of the study.

    Returns:
        What it gave.

    Raises:
        ValueError: If it cannot be trained. The message names the run.
        OSError: If the disk is full.
    """
    folder = plan.folder / run.folder
    working = folder / WORKING_FOLDER
    shutil.rmtree(working, ignore_errors=True)
    try:
        with explain_full_disk(plan.folder):
            return _train(plan, run, data.take(run), working)
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
        # One process has many runs: none is to count the memory of those before it.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def _train(plan: StudyPlan, run: PlannedRun, data: PreparedData, working: Path) -> RunResult:
    folder = plan.folder / run.folder
    trainer, data = build_trainer(config_of(plan, run, data.tasks, working), data)
    trainer.remove_callback(PrinterCallback)
    clock = None if plan.minutes is None else StopAfter(plan.minutes)
    if clock is not None:
        trainer.add_callback(clock)
    sample = drift_sample(data["validation"], trainer.data_collator, trainer.args.device)
    states = encode_sample(trainer.model, sample)
    start = time.perf_counter()
    trainer.train()
    # The baseline takes none, and a fraction of a millisecond would stretch the axis of time.
    seconds = time.perf_counter() - start if trainer.state.global_step else 0.0
    moved = drift(states, encode_sample(trainer.model, sample))
    stages = read_stage_results(working)
    metrics = {"validation": _validation_metrics(trainer, data)}
    output = trainer.predict(data["test"], metric_key_prefix="test")
    metrics["test"] = select_metrics(output.metrics, task_metric_names(data.tasks), "test")
    model_folder = None
    if run.keeps_model:
        model_folder = run.folder / MODEL_FOLDER
        trainer.save_model(str(plan.folder / model_folder))
    history = {
        "history": trainer.state.log_history,
        "stages": stages,
        "tasks": [task.to_dict() for task in data.tasks],
    }
    write_json(folder / HISTORY_NAME, history)
    before = _start_of(plan, run)
    kept = _kept_evaluation(trainer)
    result = RunResult(
        size=run.size,
        seed=run.seed,
        metrics=metrics,
        seconds=seconds,
        total_seconds=seconds + (0.0 if before is None else before["total_seconds"]),
        peak_memory_bytes=max((stage["peak_memory_bytes"] for stage in stages), default=_memory_now()),
        trainable_parameters=max((stage["trainable_parameters"] for stage in stages), default=0),
        parameters=sum(group.num_parameters for group in trainer.layer_groups),
        epochs=trainer.state.epoch or 0.0,
        kept_epoch=kept.epoch if kept is not None and trainer.state.global_step else None,
        out_of_time=clock is not None and clock.out_of_time,
        drift={name.removeprefix("drift_"): value for name, value in moved.items()},
        forgetting=forgetting(data.tasks, trainer.state.log_history, metrics, before and before["metrics"]),
        frozen_task=_frozen_task(run, data.tasks, metrics, before),
        loss_gap=loss_gap(trainer),
        history=(run.folder / HISTORY_NAME).as_posix(),
        model=None if model_folder is None else model_folder.as_posix(),
    )
    write_record(plan, run, result, row_scores(output, data.tasks))
    return result


def config_of(plan: StudyPlan, run: PlannedRun, tasks: Sequence[TaskConfig], working: Path) -> RunConfig:
    """Return the config of a run.

    Args:
        plan: The study.
        run: The run.
        tasks: The tasks that it trains.
        working: Folder of its checkpoints.
    """
    config = plan.config
    training: dict[str, Any] = {**config.training, "seed": run.seed}
    if run.scenario.one_rate:
        training["head_learning_rate"] = config.training_arguments().learning_rate
    if run.scenario.only_task is not None:
        (task,) = tasks
        name = metric_name(task)
        # The metric that chooses the epoch of all tasks may be another task's.
        training |= {"metric_for_best_model": name, "greater_is_better": greater_is_better(name)}
    encoder = config.encoder
    if run.start_folder is not None:
        encoder = str((plan.folder / run.start_folder / MODEL_FOLDER).resolve())
    # The tasks have their labels by now: those of a model that a run starts from must be the same.
    return replace(
        config, encoder=encoder, tasks=list(tasks), freeze=run.freeze, training=training, output_dir=str(working)
    )


def forgetting(
    tasks: Sequence[TaskConfig],
    log_history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Forgetting]:
    """Work out what each task lost on validation.

    Args:
        tasks: The tasks of the run.
        log_history: What its trainer has recorded.
        metrics: Metrics of the weights that were kept, by split.
        before: Those of the trained model that it started from; None where it started from an encoder.

    Returns:
        What was lost, by task.
    """
    lost = {}
    for task in tasks:
        name = metric_name(task)
        kept = metrics["validation"].get(name)
        if kept is None:
            continue
        sign = 1 if greater_is_better(name) else -1
        seen = [found.metrics[name] for found in TrainingHistory(log_history).evaluations() if name in found.metrics]
        start = None if before is None else before["validation"].get(name)
        best = max((sign * value for value in seen), default=sign * kept)
        lost[task.name] = Forgetting(best - sign * kept, None if start is None else sign * (start - kept))
    return lost


def loss_gap(trainer: MultiTaskTrainer) -> float | None:
    """Return validation loss less mean training loss of the epoch whose weights were kept, where both are known."""
    kept = _kept_evaluation(trainer)
    return None if kept is None else kept.gap


def _kept_evaluation(trainer: MultiTaskTrainer) -> Evaluation | None:
    best_step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return TrainingHistory(trainer.state.log_history).kept_evaluation(best_step)


def _validation_metrics(trainer: MultiTaskTrainer, data: PreparedData) -> dict[str, float]:
    """Return the metrics on validation of the weights that were kept, from the record where they are there."""
    names = task_metric_names(data.tasks)
    recorded = final_metrics(trainer.state, data.tasks, trainer.args.load_best_model_at_end).get("validation")
    if recorded is None:
        return select_metrics(trainer.evaluate(), names, "eval")
    return {name: recorded[name] for name in names if name in recorded}


def _memory_now() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def _start_of(plan: StudyPlan, run: PlannedRun) -> dict[str, Any] | None:
    """Return the record of the run that a run starts from."""
    started = [other for other in plan.runs if run.start_folder is not None and other.folder == run.start_folder]
    return read_record(plan, started[0]) if started else None


def _frozen_task(
    run: PlannedRun,
    tasks: Sequence[TaskConfig],
    metrics: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Any] | None,
) -> FrozenTask | None:
    if before is None or run.scenario.frozen_task is None:
        return None
    name = next(metric_name(task) for task in tasks if task.name == run.scenario.frozen_task)
    return FrozenTask(run.scenario.frozen_task, before["metrics"]["test"][name], metrics["test"][name])
