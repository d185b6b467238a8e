"""Reports of a run: ``history.json``, ``mistakes.json``, ``report.html``, and what its trackers show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers

from ..data import SPLITS, PreparedData, TrainingStream
from ..freezing.stage_results import read_stage_results
from ..models import TaskConfig
from ..reports.mistakes_file import MISTAKES_NAME, write_mistakes
from ..reports.split_result import SplitResult
from ..reports.tracking import log_results
from ..reports.training_report import HISTORY_NAME, REPORT_NAME, TrainingRecord, write_report
from ..runtime.extras import missing_packages
from ..runtime.fold_scores import FoldScores
from ..runtime.training_history import LogEntry, TrainingHistory
from ..training import contrastive
from ..training.trainer import MultiTaskTrainer
from .config import RunConfig


def remove_report(folder: Path) -> None:
    """Remove the reports that an earlier run, or the part of this run before a resume, has written."""
    for name in (REPORT_NAME, MISTAKES_NAME, HISTORY_NAME):
        (folder / name).unlink(missing_ok=True)


def training_record(
    config: RunConfig,
    trainer: MultiTaskTrainer,
    data: PreparedData,
    results: Mapping[str, SplitResult],
    problems: Sequence[str] = (),
    folds: FoldScores | None = None,
) -> TrainingRecord:
    """Collect the content of a run's report.

    Args:
        config: Config of the run.
        trainer: The trainer, after training.
        data: The data.
        results: Results of the run by split.
        problems: Signs that the run has learned nothing, or not enough.
        folds: Scores of the run's folds, if any.

    Returns:
        The record.
    """
    return TrainingRecord(
        facts=_run_summary(config, trainer, data) | ({"Problems": " ".join(problems)} if problems else {}),
        tasks=data.tasks,
        history=trainer.state.log_history,
        stages=read_stage_results(config.output_dir),
        results=results,
        folds=folds,
    )


def report_run(output_dir: Path, trainer: MultiTaskTrainer, record: TrainingRecord) -> None:
    """Write the report and the worst mistakes of a run and log its scores to the trackers. Only for the main process.

    Without the packages of the extra ``reports``, there is no ``report.html``.

    Args:
        output_dir: Directory of the run.
        trainer: The trainer.
        record: Content of the report, from `training_record`.
    """
    write_mistakes(output_dir, record)
    if not missing_packages("reports"):
        write_report(output_dir, record)
    log_results(trainer.callbacks.tracking, record, trainer.state.global_step)


def _run_summary(config: RunConfig, trainer: MultiTaskTrainer, data: PreparedData) -> dict[str, str]:
    """Return the facts of a run for its report, as text by title."""
    args, state = trainer.args, trainer.state
    rows = {split: f"{report.rows:,}" for split, report in data.reports.items() if report.rows}
    if isinstance(data["train"], TrainingStream):
        rows["train"] = "streamed"
    seconds = TrainingHistory(state.log_history).total("train_runtime")
    weights = "of the last step"
    if args.load_best_model_at_end and state.best_global_step is not None:
        weights = f"of step {state.best_global_step:,}, the best by {args.metric_for_best_model} on validation"
    warm_up = [_describe_warm_up(entry) for entry in state.log_history if contrastive.LOSS in entry]
    return {
        "Encoder": config.encoder,
        **({} if data.teacher is None else {"Teacher": str(data.teacher)}),
        "Tasks": "; ".join(_describe_task(task) for task in data.tasks),
        "Rows": ", ".join(f"{split} {rows[split]}" for split in SPLITS if split in rows),
        **({"Contrastive warm-up": warm_up[0]} if warm_up else {}),
        "Trained": f"{state.global_step:,} steps, {state.epoch or 0:g} epochs, {seconds:,.0f} seconds",
        "Weights": weights,
        "Computed on": f"{args.world_size} × {args.device.type}",
        "Software": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }


def _describe_warm_up(entry: LogEntry) -> str:
    return (
        f"{entry[contrastive.STEPS]:,} steps, {entry[contrastive.SECONDS]:,.0f} seconds, loss "
        f"{entry[contrastive.LOSS]:.4f} at the end"
    )


def _describe_task(task: TaskConfig) -> str:
    labels = f", {task.num_labels:,} labels" if task.labels else ""
    return f"{task.name} ({task.problem_type or task.type}{labels})"
