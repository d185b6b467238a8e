"""Sums since the last log in a checkpoint, so that a resumed run logs what an uninterrupted one does."""

from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import read_json, write_json
from .task_log import TaskLog

# In a checkpoint, with the number of the process.
_NAME = "logged_sums_{}.json"


class LoggedSums(TrainerCallback):
    """Writes the sums that the Trainer and `TaskLog` keep between two logs to a checkpoint, and reads them on resume.

    Numbers are written as Python writes them, which is exact. Each process has its own sums.

    Args:
        trainer: The trainer.
        task_log: Its log by task.
    """

    def __init__(self, trainer: Trainer, task_log: TaskLog) -> None:
        self.trainer = trainer
        self.task_log = task_log
        self._resumed: JsonObject | None = None
        # Step from which the sum of losses of the whole training counts.
        self._first_step = 0

    def begin(self, checkpoint: str | bool | None) -> None:
        """Begin a training.

        Args:
            checkpoint: Checkpoint that is resumed from. Those of other trainers have no sums.
        """
        path = None if not checkpoint else Path(str(checkpoint), _NAME.format(self.trainer.args.process_index))
        self._resumed = None if path is None else read_json(path)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Restore the sums of a checkpoint; the Trainer has just set its own to 0."""
        trainer, saved = self.trainer, self._resumed
        self._first_step = state.global_step
        if saved is not None:
            self._first_step = saved["first_step"]
            trainer._tr_loss += torch.tensor(saved["loss"], dtype=trainer._tr_loss.dtype)
            trainer._total_loss_scalar = saved["total_loss"]
            trainer._globalstep_last_logged = saved["last_logged_step"]
            self.task_log.load_state_dict(saved["tasks"])

    def save(self, checkpoint: str) -> None:
        """Write the sums of this process to a checkpoint."""
        trainer = self.trainer
        sums = {
            "loss": trainer._tr_loss.item(),
            "total_loss": trainer._total_loss_scalar,
            "last_logged_step": trainer._globalstep_last_logged,
            "first_step": self._first_step,
            "tasks": self.task_log.state_dict(),
        }
        write_json(Path(checkpoint, _NAME.format(trainer.args.process_index)), sums)

    def mean_loss(self) -> float:
        """Return the mean training loss of the whole training, as an uninterrupted one has it at its end."""
        return self.trainer._total_loss_scalar / max(self.trainer.state.global_step - self._first_step, 0.001)
