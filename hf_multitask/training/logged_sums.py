"""Sums since the last log in a checkpoint, so that a resumed run logs what an uninterrupted one does."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import read_json, write_text
from .task_log import TaskLog

# In a checkpoint, with the number of the process.
_NAME = "logged_sums_{}.json"


@dataclass
class LossSums:
    """Sums of losses that the Trainer keeps.

    Args:
        since_log: Sum of the losses since the last log.
        before_log: Sum of all losses until then.
        last_logged_step: Step of the last log.
    """

    since_log: float
    before_log: float
    last_logged_step: int


@dataclass(frozen=True)
class LossSumsHooks:
    """What `LoggedSums` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        read: Return the sums of the trainer.
        write: Set the sums of the trainer.
    """

    read: Callable[[], LossSums]
    write: Callable[[LossSums], None]


class LoggedSums(TrainerCallback):
    """Writes the sums that the Trainer and `TaskLog` keep between two logs to a checkpoint, and reads them on resume.

    Numbers are written as Python writes them, which is exact, and with NaN and infinity: the gradient scaler of fp16
    skips a step with an infinite loss, and the run goes on. Each process has its own sums.

    Args:
        task_log: Log by task.
        hooks: Callables of the trainer.
    """

    def __init__(self, task_log: TaskLog, hooks: LossSumsHooks) -> None:
        self.task_log = task_log
        self.hooks = hooks
        self._resumed: JsonObject | None = None
        # Step from which the sum of losses of the whole training counts.
        self._first_step = 0

    def begin(self, checkpoint: str | bool | None, process: int) -> None:
        """Begin a training.

        Args:
            checkpoint: Checkpoint that is resumed from. Those of other trainers have no sums.
            process: Number of this process.
        """
        path = None if not checkpoint else Path(str(checkpoint), _NAME.format(process))
        self._resumed = None if path is None else read_json(path)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Restore the sums of a checkpoint; the Trainer has just set its own to 0."""
        saved = self._resumed
        self._first_step = state.global_step
        if saved is not None:
            self._first_step = saved["first_step"]
            self.hooks.write(LossSums(saved["loss"], saved["total_loss"], saved["last_logged_step"]))
            self.task_log.load_state_dict(saved["tasks"])

    def save(self, checkpoint: str, process: int) -> None:
        """Write the sums of this process to a checkpoint.

        Args:
            checkpoint: Folder of the checkpoint.
            process: Number of this process.
        """
        sums = self.hooks.read()
        values = {
            "loss": sums.since_log,
            "total_loss": sums.before_log,
            "last_logged_step": sums.last_logged_step,
            "first_step": self._first_step,
            "tasks": self.task_log.state_dict(),
        }
        write_text(Path(checkpoint, _NAME.format(process)), json.dumps(values))

    def mean_loss(self, step: int) -> float:
        """Return the mean training loss of the whole training, as an uninterrupted one has it at its end.

        Args:
            step: Optimizer steps of the training.
        """
        return self.hooks.read().before_log / max(step - self._first_step, 0.001)
