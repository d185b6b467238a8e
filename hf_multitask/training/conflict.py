"""Conflict between tasks: cosines and shares of their gradients by layer group, logged every few steps."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.tasks import TaskConfig
from .conflict_log import conflict_name, share_name, summarize_conflict
from .task_gradients import GradientComparison, TaskGradients

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConflictHooks:
    """What a `ConflictCallback` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        tasks: Return the tasks of the model.
        weights: Return the present weight of each task in the loss.
        log: Log values as the Trainer does.
    """

    tasks: Callable[[], Sequence[TaskConfig]]
    weights: Callable[[], Mapping[str, float]]
    log: Callable[[dict[str, float]], None]


class ConflictCallback(TrainerCallback):
    """Logs every few steps how the gradients of the tasks compare on the shared groups that train.

    ``conflict_<a>_<b>_<group>`` is the cosine of the gradients of two tasks, and ``gradient_share_<task>_<group>``
    the share of a task in the sum of the norms, each times the weight of its loss. The group ``all`` stands for all
    shared weights that train.

    Args:
        steps: Optimizer steps from one comparison to the next.
        gradients: Gradients of the trainer.
        hooks: Callables of the trainer.
    """

    def __init__(self, steps: int, gradients: TaskGradients, hooks: ConflictHooks) -> None:
        self.steps = steps
        self.gradients = gradients
        self.hooks = hooks

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Compare the gradients at the weights after the step, if it is the turn of one."""
        if state.global_step % self.steps:
            return
        found = self.gradients.compare(state.global_step)
        if found is not None:
            should_log = control.should_log
            self.hooks.log(conflict_entries(found, self.hooks.weights()))
            control.should_log = should_log  # a log says that the log of the step is done

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Say whether tasks pulled apart."""
        sentence = summarize_conflict([task.name for task in self.hooks.tasks()], state.log_history)
        if sentence is not None and state.is_world_process_zero:
            logger.info("%s", sentence)


def conflict_entries(found: GradientComparison, weights: Mapping[str, float]) -> dict[str, float]:
    """Return the entries of the log for a comparison.

    Args:
        found: The comparison.
        weights: Weight of each task in the loss.
    """
    entries = {
        conflict_name(one, other, group): cosine
        for group, cosines in found.cosines.items()
        for (one, other), cosine in cosines.items()
    }
    for group, norms in found.norms.items():
        weighted = {name: weights[name] * norm for name, norm in norms.items()}
        total = sum(weighted.values())
        if 0 < total < math.inf:
            entries |= {share_name(name, group): norm / total for name, norm in weighted.items()}
    return entries


def check_conflict(tasks: Sequence[TaskConfig]) -> None:
    """Raise if there is nothing to compare, or the names of two pairs of tasks would be the same in the log.

    Args:
        tasks: Tasks of the model.

    Raises:
        ValueError: If so.
    """
    if len(tasks) < 2:
        raise ValueError("conflict_steps compares the gradients of tasks: expected two or more tasks, found one.")
    pairs: dict[str, tuple[str, str]] = {}
    for one, other in combinations([task.name for task in tasks], 2):
        name = conflict_name(one, other, "")
        if name in pairs:
            first = " and ".join(map(repr, pairs[name]))
            raise ValueError(
                f"conflict_steps: the tasks {first} and the tasks {one!r} and {other!r} have the same name in the "
                f"log, {name!r}; rename one of them."
            )
        pairs[name] = one, other
