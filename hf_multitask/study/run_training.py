"""Training of one run of a study, and its result."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..data import PreparedData
from ..freezing.distillation import drift, drift_sample, encode_sample
from ..freezing.stage import greater_is_better
from ..freezing.stage_results import read_stage_results
from ..models import TaskConfig
from ..models.type_aliases import JsonObject
from ..reports.training_report import HISTORY_NAME
from ..runs.build import build_trainer
from ..runs.config import RunConfig
from ..runs.lora import LoraSettings
from ..runtime.atomic_files import write_json
from ..runtime.memory import free_memory
from ..runtime.training_history import Evaluation, TrainingHistory, select_metrics
from ..training.card_facts import final_metrics
from ..training.conflict_log import lowest_cosine
from ..training.metrics import reported_metric_names
from ..training.settings import adapter_learning_rate
from ..training.trainer import MultiTaskTrainer
from .limits import StudyLimit, StudyLimitCallback
from .records import RunRecord, explain_full_disk, read_record, write_record
from .row_scores import metric_name, row_scores
from .study_plan import PlannedRun, StudyPlan
from .study_results import Forgetting, FrozenTask, RunResult
from .subsets import StudyData

MODEL_FOLDER = "model"
# Folder of the checkpoints that the trainer writes, removed after the run.
WORKING_FOLDER = "training"

Metrics = Mapping[str, Mapping[str, float]]
"""Metrics by split and name."""


class TimeLimitCallback(TrainerCallback):
    """Callback that stops the training at a time limit, after an evaluation.

    Args:
        minutes: The limit in minutes.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.end = math.inf
        self.out_of_time = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.end = time.perf_counter() + self.seconds

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop if the time is up."""
        if time.perf_counter() >= self.end and state.global_step < state.max_steps:
            self.out_of_time = True
            control.should_training_stop = True
            if args.eval_strategy == IntervalStrategy.STEPS:
                # With another strategy the Trainer evaluates and saves anyway: stopping ends the epoch.
                control.should_evaluate = control.should_save = True


def train_run(plan: StudyPlan, run: PlannedRun, data: StudyData, limit: StudyLimit) -> None:
    """Train a run and write its record.

    Args:
        plan: The study.
        run: The run. The run that it starts from is finished.
        data: The data of the study.
        limit: Limit of the study.

    Raises:
        TimeIsUpError: If the time of the study is up before the run is finished. It has no record then.
        ValueError: If the run cannot be trained. The message names the run.
        OSError: If the disk is full.
    """
    working = plan.folder / run.folder / WORKING_FOLDER
    shutil.rmtree(working, ignore_errors=True)
    try:
        with explain_full_disk(plan.folder):
            write_record(plan, run, _train(plan, run, data.for_run(run), working, limit))
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
        # The peak of the next run must not include this one.
        free_memory()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def _train(plan: StudyPlan, run: PlannedRun, data: PreparedData, working: Path, limit: StudyLimit) -> RunRecord:
    trainer, data = build_trainer(run_config(plan, run, data.tasks, working), data)
    time_limit = TimeLimitCallback(math.inf if plan.minutes is None else plan.minutes / run.shortening)
    trainer.add_callback(time_limit)
    trainer.add_callback(StudyLimitCallback(limit))
    sample = drift_sample(data["validation"], trainer.data_collator, trainer.args.device)
    states = encode_sample(trainer.model, sample)
    start = time.perf_counter()
    trainer.train()
    # The baseline trains nothing: its fraction of a millisecond would stretch the time axis of the figure.
    seconds = time.perf_counter() - start if trainer.state.global_step else 0.0
    moved = drift(states, encode_sample(trainer.model, sample))
    stages = read_stage_results(working)
    metrics = {"validation": _validation_metrics(trainer, data.tasks)}
    output = trainer.predict(data["test"], metric_key_prefix="test")
    metrics["test"] = select_metrics(output.metrics, reported_metric_names(data.tasks), "test")
    model = _save_model(plan, run, trainer)
    _write_history(plan, run, trainer, stages, data.tasks)
    started_from = _read_start(plan, run)
    evaluation = _kept_evaluation(trainer)
    result = RunResult(
        size=run.size,
        seed=run.seed,
        metrics=metrics,
        seconds=seconds,
        total_seconds=seconds + (0.0 if started_from is None else started_from.total_seconds),
        peak_memory_bytes=max((stage["peak_memory_bytes"] for stage in stages), default=_memory_now()),
        trainable_parameters=max((stage["trainable_parameters"] for stage in stages), default=0),
        parameters=sum(group.num_parameters for group in trainer.layer_groups),
        epochs=trainer.state.epoch or 0.0,
        kept_epoch=evaluation.epoch if evaluation is not None and trainer.state.global_step else None,
        out_of_time=time_limit.out_of_time,
        drift={name.removeprefix("drift_"): value for name, value in moved.items()},
        forgetting=forgetting(data.tasks, trainer.state.log_history, metrics, started_from),
        frozen_task=_frozen_task(run, data.tasks, metrics, started_from),
        loss_gap=None if evaluation is None else evaluation.gap,
        history=(run.folder / HISTORY_NAME).as_posix(),
        model=model,
        fold=run.fold,
        lowest_cosine=lowest_cosine([task.name for task in data.tasks], trainer.state.log_history),
    )
    return RunRecord(result, row_scores(output, data.tasks))


def _save_model(plan: StudyPlan, run: PlannedRun, trainer: MultiTaskTrainer) -> str | None:
    """Save the model if other runs start from it, and return its folder relative to the folder of the study."""
    if not run.keeps_model:
        return None
    trainer.save_model(str(plan.folder / run.folder / MODEL_FOLDER))
    return (run.folder / MODEL_FOLDER).as_posix()


def _write_history(
    plan: StudyPlan,
    run: PlannedRun,
    trainer: MultiTaskTrainer,
    stages: Sequence[JsonObject],
    tasks: Sequence[TaskConfig],
) -> None:
    """Write what the learning curves of the run are drawn from."""
    values = {"history": trainer.state.log_history, "stages": stages, "tasks": [task.to_dict() for task in tasks]}
    write_json(plan.folder / run.folder / HISTORY_NAME, values)


def run_config(plan: StudyPlan, run: PlannedRun, tasks: Sequence[TaskConfig], working: Path) -> RunConfig:
    """Return the config of a run.

    Args:
        plan: The study.
        run: The run.
        tasks: The tasks that it trains.
        working: Folder for its checkpoints.
    """
    config = plan.config
    training: JsonObject = {**config.training, "seed": run.seed, **_shortened(config, run.shortening)}
    if run.scenario.only_task is not None:
        (task,) = tasks
        name = metric_name(task)
        # The config may choose the best epoch by a metric of a task that this run does not have.
        training |= {"metric_for_best_model": name, "greater_is_better": greater_is_better(name)}
        # There is no other task to compare with, and none to balance.
        training = {key: value for key, value in training.items() if key not in ("conflict_steps", "loss_balancing")}
    lora = None
    if run.scenario.lora is not None:
        lora = replace(config.lora or LoraSettings(), **run.scenario.lora)
        training["learning_rate"] = adapter_learning_rate(config.training_arguments().learning_rate)
    if run.scenario.one_rate:
        training["head_learning_rate"] = training.get("learning_rate", config.training_arguments().learning_rate)
    encoder = config.encoder
    if run.start_folder is not None:
        encoder = str((plan.folder / run.start_folder / MODEL_FOLDER).resolve())
    # The tasks have their labels by now: they must match the labels of a model that the run starts from.
    config = replace(config, encoder=encoder, lora=lora, training=training, output_dir=str(working))
    return replace(config, tasks=list(tasks), freeze=run.freeze)


def _shortened(config: RunConfig, shortening: int) -> JsonObject:
    """Return the settings of a run of one of so many steps or epochs; none for a run of all of them."""
    if shortening == 1:
        return {}
    arguments = config.training_arguments()
    if arguments.max_steps > 0:
        return {"max_steps": math.ceil(arguments.max_steps / shortening)}
    return {"num_train_epochs": arguments.num_train_epochs / shortening}


def forgetting(
    tasks: Sequence[TaskConfig],
    log_history: Sequence[JsonObject],
    metrics: Metrics,
    started_from: RunResult | None,
) -> dict[str, Forgetting]:
    """Measure the forgetting of each task on validation.

    Args:
        tasks: The tasks of the run.
        log_history: ``trainer.state.log_history``.
        metrics: Metrics of the final weights.
        started_from: Result of the run that it started from; None if it started from an encoder.

    Returns:
        Forgetting by task; a task without validation metric is left out.
    """
    results = {}
    for task in tasks:
        name = metric_name(task)
        final = metrics["validation"].get(name)
        if final is None:
            continue
        sign = 1 if greater_is_better(name) else -1
        evaluations = TrainingHistory(log_history).evaluations()
        seen = [evaluation.metrics[name] for evaluation in evaluations if name in evaluation.metrics]
        best = max((sign * value for value in seen), default=sign * final)
        start = None if started_from is None else started_from.metrics["validation"].get(name)
        results[task.name] = Forgetting(best - sign * final, None if start is None else sign * (start - final))
    return results


def _kept_evaluation(trainer: MultiTaskTrainer) -> Evaluation | None:
    """Return the last evaluation of the final weights, or None if there was none during training."""
    best_step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return TrainingHistory(trainer.state.log_history).kept_evaluation(best_step)


def _validation_metrics(trainer: MultiTaskTrainer, tasks: Sequence[TaskConfig]) -> dict[str, float]:
    """Return the metrics of the final weights on validation, evaluating only if they were not logged."""
    names = reported_metric_names(tasks)
    logged = final_metrics(trainer.state, tasks, trainer.args.load_best_model_at_end).get("validation")
    if logged is None:
        return select_metrics(trainer.evaluate(), names, "eval")
    return {name: logged[name] for name in names if name in logged}


def _memory_now() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def _read_start(plan: StudyPlan, run: PlannedRun) -> RunResult | None:
    """Return the result of the run that a run starts from, if any."""
    for other in plan.runs:
        if other.folder == run.start_folder:
            record = read_record(plan, other)
            return None if record is None else record.result
    return None


def _frozen_task(
    run: PlannedRun, tasks: Sequence[TaskConfig], metrics: Metrics, started_from: RunResult | None
) -> FrozenTask | None:
    if started_from is None or run.scenario.frozen_task is None:
        return None
    name = next(metric_name(task) for task in tasks if task.name == run.scenario.frozen_task)
    return FrozenTask(run.scenario.frozen_task, started_from.metrics["test"][name], metrics["test"][name])
