"""Checks of what a `MultiTaskTrainer` is given, before it builds anything."""

import logging
from collections.abc import Iterable, Sequence

from transformers import TrainerCallback

from ..freezing import FreezeCallback, FreezeSchedule
from ..freezing.replay import check_watched_metrics
from ..models import TaskConfig
from ..models.messages import unknown_name_message
from .arguments import MultiTaskTrainingArguments
from .metrics import task_metric_names

logger = logging.getLogger(__name__)


class NothingTrainsError(Exception):
    """Every group of the model that a training begins with is frozen."""


def check_given(
    args: object, callbacks: Iterable[TrainerCallback | type[TrainerCallback]] | None
) -> MultiTaskTrainingArguments:
    """Check the training arguments and the callbacks, and let a process use one GPU.

    Args:
        args: Training arguments; the defaults if None.
        callbacks: Callbacks, if any.

    Returns:
        The training arguments.

    Raises:
        TypeError: If the arguments are those of another trainer. The message names the class to take.
        ValueError: If a callback is a schedule, which the trainer takes as an argument.
    """
    args = args or MultiTaskTrainingArguments("tmp_trainer")
    if not isinstance(args, MultiTaskTrainingArguments):
        raise TypeError(
            f"args: expected MultiTaskTrainingArguments, found {type(args).__name__}. It takes the same arguments "
            "and those of several tasks: from hf_multitask import MultiTaskTrainingArguments."
        )
    if any(isinstance(callback, FreezeCallback) for callback in callbacks or []):
        raise ValueError("callbacks: found a FreezeCallback; give its schedule as freeze_schedule instead.")
    if args.n_gpu > 1:
        # `DataParallel` would split the batch of several tasks.
        logger.warning("Using one of %d GPUs: start with torchrun or accelerate launch to use all.", args.n_gpu)
        args._n_gpu = 1
    return args


def check_watched(
    args: MultiTaskTrainingArguments,
    tasks: Sequence[TaskConfig],
    validation: object,
    schedule: FreezeSchedule | None,
) -> None:
    """Raise if no evaluation will have a metric that a schedule watches, or that chooses the best checkpoint.

    Args:
        args: Arguments of the trainer.
        tasks: Tasks of the model.
        validation: Validation rows, or several sets of them by name.
        schedule: Freeze schedule, if there is one.

    Raises:
        ValueError: If so. The message names the closest metric.
    """
    metric, found = args.metric_for_best_model, task_metric_names(tasks)
    if schedule is not None:
        check_watched_metrics(schedule, metric, found)
    if metric is None or args.eval_strategy == "no":
        return
    name = metric.removeprefix("eval_")
    prefixes = [f"{name}_" for name in validation] if isinstance(validation, dict) else [""]
    names = [f"{prefix}{known}" for prefix in prefixes for known in found]
    if name not in names and not name.startswith("drift_"):
        raise ValueError(unknown_name_message("metric_for_best_model", metric, names))


def check_tasks(before: Sequence[TaskConfig], now: Sequence[TaskConfig]) -> None:
    """Raise if the tasks of the model are no longer the tasks that data, metrics and optimizer are for.

    Args:
        before: Tasks when the trainer was built.
        now: Tasks of the model now.

    Raises:
        ValueError: If they differ.
    """
    if now != before:
        names = [", ".join(task.name for task in tasks) for tasks in (before, now)]
        raise ValueError(
            f"the model's tasks have changed since this trainer was built, from {names[0]} to {names[1]}; "
            "build another."
        )
