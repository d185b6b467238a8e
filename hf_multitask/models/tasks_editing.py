"""Editing the tasks of a model: adding, removing and renaming heads, without changes to the others."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from .heads import LinearHead, build_head
from .heads_scope import build_statistic
from .messages import MAX_NAMES_SHOWN, unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel
from .private_layers import copy_private_layers, put_in_encoder
from .tasks import TaskConfig
from .tasks_constraints import check_constraints, without_lost_constraints

# Fields of a task that determine the structure of its head, with the values that leave them to the trained head.
_HEAD_FIELDS = {"head": (None,), "mix_layers": (None,), "crf": (False,)}


def find_task(tasks: Sequence[TaskConfig], name: str) -> TaskConfig:
    """Return the task with a name.

    Args:
        tasks: Tasks.
        name: Name of the task.

    Returns:
        The task.

    Raises:
        ValueError: If no task has this name. The message names the existing tasks.
    """
    by_name = {task.name: task for task in tasks}
    if name not in by_name:
        raise ValueError(unknown_name_message("task", name, by_name))
    return by_name[name]


def add_task(model: MultiTaskPreTrainedModel, task: TaskConfig) -> None:
    """Add a task with a new head to a model; see `MultiTaskModel.add_task`."""
    _check_name_is_free(model, task.name)
    set_tasks(model, [*model.config.tasks, task])


def remove_task(model: MultiTaskPreTrainedModel, name: str) -> None:
    """Remove a task from a model; see `MultiTaskModel.remove_task`."""
    removed = find_task(model.config.tasks, name)
    if len(model.config.tasks) == 1:
        raise ValueError(f"task {name!r} is the model's only one; a model has at least one. Add another first.")
    set_tasks(model, without_lost_constraints([task for task in model.config.tasks if task is not removed]))


def rename_task(model: MultiTaskPreTrainedModel, old: str, new: str) -> None:
    """Rename a task of a model; see `MultiTaskModel.rename_task`."""
    renamed = find_task(model.config.tasks, old)
    _check_name_is_free(model, new)
    tasks = [replace(task, name=new) if task is renamed else task for task in model.config.tasks]
    model.heads[new] = model.heads[old]
    if old in model.private_layers:
        model.private_layers[new] = model.private_layers[old]
    set_tasks(model, [replace(task, constrained_by=new) if task.constrained_by == old else task for task in tasks])


def set_tasks(model: MultiTaskPreTrainedModel, tasks: Sequence[TaskConfig]) -> None:
    """Set the tasks of a model: it keeps the heads of tasks that it already has, and gets new heads for the others.

    The same applies to private layers; new ones are copies of the encoder's layers as they are now. The config's list
    of tasks is replaced instead of changed, so that owners of the old list can detect the change.

    Args:
        model: Model.
        tasks: Tasks, each with its labels. The labels of a task with an existing head must not change.

    Raises:
        ValueError: If a task has no labels, token tasks do not read the same subword of a word, the encoder cannot
            have the private layers of a task, or a constraint is wrong (see `check_constraints`).
    """
    tasks = [task.with_defaults() for task in tasks]
    check_constraints(tasks)
    _check_subwords(model.config.tasks, tasks)
    heads: dict[str, nn.Module] = {}
    for task in tasks:
        head = model.heads[task.name] if task.name in model.heads else _new_head(model, task)
        if isinstance(head, LinearHead):
            head.dropout.p = task.dropout
            _set_statistic(head, task, model)
        heads[task.name] = head
    model.heads = nn.ModuleDict(heads)
    model.config.tasks = _set_private_layers(model, tasks)
    model.config.follow_tasks()


def continued_tasks(tasks: Sequence[TaskConfig], trained: Sequence[TaskConfig]) -> list[TaskConfig]:
    """Complete tasks that a trained model already has with the fields that its heads determine.

    Args:
        tasks: Tasks to train.
        trained: Tasks of the model.

    Returns:
        The tasks to train. Tasks that the model already has get its labels, problem type, kind of head, constraint and
        number of private layers; one that shares all layers in the model may get private ones.

    Raises:
        ValueError: If a task differs from the model's task of the same name. The message names the difference.
    """
    by_name = {task.name: task for task in trained}
    continued = []
    for task in tasks:
        if task.name in by_name:
            known = by_name[task.name]
            _check_continues(task, known)
            kept = {key: getattr(known, key) for key in ("labels", "problem_type", *_HEAD_FIELDS)}
            task = replace(task, **kept, private_layers=known.private_layers or task.private_layers)
            if known.constrained_by and task.constrained_by in (None, known.constrained_by):
                types = known.types_by_label if task.types_by_label is None else task.types_by_label
                task = replace(task, constrained_by=known.constrained_by, types_by_label=types)
        continued.append(task)
    return without_lost_constraints(continued)


def _set_private_layers(model: MultiTaskPreTrainedModel, tasks: Sequence[TaskConfig]) -> list[TaskConfig]:
    """Give tasks their private layers, and return the tasks.

    If no task uses the encoder's own upper layers any more, the task with the fewest private layers gets its layers in
    their place.
    """
    present = dict(model.private_layers)
    new = [task for task in tasks if task.private_layers and task.name not in present]
    present |= {task.name: copy_private_layers(model.encoder, task) for task in new}
    model.private_layers = nn.ModuleDict({task.name: present[task.name] for task in tasks if task.private_layers})
    if new:
        model.check_private_layers(new)
    if not all(task.private_layers for task in tasks):
        return list(tasks)
    sharing = min(tasks, key=lambda task: task.private_layers)
    put_in_encoder(model.encoder, model.private_layers.pop(sharing.name))
    model.__dict__.pop("partial_forward", None)
    return [replace(task, private_layers=0) if task is sharing else task for task in tasks]


def _set_statistic(head: LinearHead, task: TaskConfig, model: MultiTaskPreTrainedModel) -> None:
    """Give a head the statistic of states that its task abstains by, if it has another or none."""
    wanted = build_statistic(task, model.encoder.config.hidden_size)
    if type(head.scope) is not type(wanted):
        head.scope = None if wanted is None else wanted.to(model.device, model.dtype)


@torch.no_grad()
def _new_head(model: MultiTaskPreTrainedModel, task: TaskConfig) -> LinearHead:
    """Return a head as the model initializes it, on the device and in the type of the encoder."""
    size = (model.encoder.config.hidden_size, model.encoder.config.num_hidden_layers)
    head = build_head(task, *size)
    head.apply(model._init_weights)
    return head.to(model.device, model.dtype).train(model.training)


def _check_name_is_free(model: MultiTaskPreTrainedModel, name: str) -> None:
    names = [task.name for task in model.config.tasks]
    if name in names:
        raise ValueError(f"the model already has a task {name!r}; found {', '.join(names)}.")


def _check_subwords(present: Sequence[TaskConfig], tasks: Sequence[TaskConfig]) -> None:
    """Raise if token tasks do not read the same subword: a batch has one position per word for all of them."""
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
    """Raise if a task does not fit the trained head of the same name."""
    left_out = {"type": (), "problem_type": (None,), **_HEAD_FIELDS}
    for key, values in left_out.items():
        given, trained = getattr(task, key), getattr(known, key)
        if given not in (*values, trained):
            raise ValueError(
                f"task {task.name!r}: {key} is {given!r}, but {trained!r} in the trained model. {_INSTEAD}"
            )
    if known.private_layers and task.private_layers not in (0, known.private_layers):
        raise ValueError(
            f"task {task.name!r}: private_layers is {task.private_layers}, but {known.private_layers} in the trained "
            f"model. {_INSTEAD}"
        )
    if task.labels is None or task.labels == known.labels:
        return
    trained_labels = known.labels or []
    missing, extra = (
        ", ".join(sorted(set(some) - set(others))[:MAX_NAMES_SHOWN])
        for some, others in ((trained_labels, task.labels), (task.labels, trained_labels))
    )
    parts = [f"{text} {names}" for text, names in (("it lacks", missing), ("the model has no", extra)) if names]
    differences = "; ".join(parts) or "they are in another order"
    raise ValueError(f"task {task.name!r}: labels are not those of the trained model: {differences}. {_INSTEAD}")


_INSTEAD = "Leave it out to continue with the trained head, or rename the task to get a new head."
