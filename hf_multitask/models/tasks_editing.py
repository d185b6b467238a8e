"""The tasks of a model changed: heads added, removed and renamed, the others kept as they are."""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from .heads import LinearHead, build_head
from .messages import MAX_NAMES_SHOWN, unknown_name_message
from .tasks import TaskConfig

# What a head is made of, and what it is where a task says nothing.
_KINDS = {field.name: field.default for field in fields(TaskConfig) if field.name in ("head", "mix_layers", "crf")}


def find_task(tasks: Sequence[TaskConfig], name: str) -> TaskConfig:
    """Return the task of a name.

    Args:
        tasks: The tasks.
        name: The name.

    Returns:
        The task.

    Raises:
        ValueError: If there is none. The message names those there are.
    """
    by_name = {task.name: task for task in tasks}
    if name not in by_name:
        raise ValueError(unknown_name_message("task", name, by_name))
    return by_name[name]


def add_task(model: PreTrainedModel, task: TaskConfig) -> None:
    """Put a new head on a model; see `MultiTaskModel.add_task`."""
    _check_name_is_free(model, task.name)
    set_tasks(model, [*model.config.tasks, task])


def remove_task(model: PreTrainedModel, name: str) -> None:
    """Remove a head from a model; see `MultiTaskModel.remove_task`."""
    removed = find_task(model.config.tasks, name)
    if len(model.config.tasks) == 1:
        raise ValueError(f"task {name!r} is the model's only one; a model has at least one. Add another first.")
    set_tasks(model, [task for task in model.config.tasks if task is not removed])


def rename_task(model: PreTrainedModel, old: str, new: str) -> None:
    """Give a head another name; see `MultiTaskModel.rename_task`."""
    renamed = find_task(model.config.tasks, old)
    _check_name_is_free(model, new)
    tasks = [replace(task, name=new) if task is renamed else task for task in model.config.tasks]
    model.heads[new] = model.heads[old]
    set_tasks(model, tasks)


def set_tasks(model: PreTrainedModel, tasks: Sequence[TaskConfig]) -> None:
    """Give a model these tasks: where it has a head of a task's name it keeps it, the others are new.

    The config's list of tasks is replaced and not changed, so that who holds the old one can tell.

    Args:
        model: The model.
        tasks: The tasks, each with its labels. Those whose head stays have the labels that it had.

    Raises:
        ValueError: If a task has no labels, or token tasks do not read the same subword of a word.
    """
    _check_subwords(model.config.tasks, tasks)
    heads = {}
    for task in tasks:
        heads[task.name] = model.heads[task.name] if task.name in model.heads else _new_head(model, task)
        heads[task.name].dropout.p = task.dropout
    model.heads = nn.ModuleDict(heads)
    model.config.tasks = list(tasks)


def continued_tasks(tasks: Sequence[TaskConfig], trained: Sequence[TaskConfig]) -> list[TaskConfig]:
    """Fill in the labels of tasks that a trained model has: its heads have an output for each.

    Args:
        tasks: The tasks to train.
        trained: The tasks of the model.

    Returns:
        The tasks to train; those of a name that the model has with its labels, problem type and kind of head.

    Raises:
        ValueError: If a task of such a name is another one. The message says in what.
    """
    by_name = {task.name: task for task in trained}
    continued = []
    for task in tasks:
        if task.name in by_name:
            known = by_name[task.name]
            _check_continues(task, known)
            kept = {key: getattr(known, key) for key in ("labels", "problem_type", *_KINDS)}
            task = replace(task, **kept)
        continued.append(task)
    return continued


@torch.no_grad()
def _new_head(model: PreTrainedModel, task: TaskConfig) -> LinearHead:
    """Return a head as the model initialises it, where its encoder is and in its type."""
    size = (model.encoder.config.hidden_size, model.encoder.config.num_hidden_layers)
    head = build_head(task, *size)
    head.apply(model._init_weights)
    return head.to(model.device, model.dtype).train(model.training)


def _check_name_is_free(model: PreTrainedModel, name: str) -> None:
    names = [task.name for task in model.config.tasks]
    if name in names:
        raise ValueError(f"the model has a task {name!r} already; found {', '.join(names)}.")


def _check_subwords(present: Sequence[TaskConfig], tasks: Sequence[TaskConfig]) -> None:
    """Refuse token tasks that do not read the same subword: a batch has one position a word for all of them."""
    names = [task.name for task in tasks]
    kept = [task for task in present if task.name in names]
    token_tasks = [task for task in [*kept, *tasks] if task.is_token_task]
    for task in token_tasks:
        first = token_tasks[0]
        if task.label_subword != first.label_subword:
            raise ValueError(
                f"task {task.name!r}: label_subword is {task.label_subword!r}, but the model's {first.name!r} reads "
                f"the {first.label_subword} subword of a word; all token tasks of a model read the same."
            )


def _check_continues(task: TaskConfig, known: TaskConfig) -> None:
    """Refuse a task that a trained head is not made for."""
    defaults = {"type": None, "problem_type": None, **_KINDS}
    for key, default in defaults.items():
        given, found = getattr(task, key), getattr(known, key)
        if given not in (default, found):
            raise ValueError(f"task {task.name!r}: {key} is {given!r}, but {found!r} in the trained model. {_INSTEAD}")
    if task.labels is None or task.labels == known.labels:
        return
    there = known.labels or []
    missing, extra = (
        ", ".join(sorted(set(some) - set(others))[:MAX_NAMES_SHOWN])
        for some, others in ((there, task.labels), (task.labels, there))
    )
    parts = [f"{what} {names}" for what, names in (("it lacks", missing), ("the model has no", extra)) if names]
    differences = "; ".join(parts) or "they are in another order"
    raise ValueError(f"task {task.name!r}: labels are not those of the trained model: {differences}. {_INSTEAD}")


_INSTEAD = "Leave it out to go on with the trained head, or give the task another name for a new one."
