"""The end of an epoch and of a run: what is logged, evaluated and saved, also when a training is resumed there."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..freezing.callback import count_steps_per_epoch


class EpochEndCallback(TrainerCallback):
    """Lets a resumed run log, evaluate and train what an uninterrupted one does, at the end of an epoch or of the run.

    A checkpoint of an epoch's last step is written after the log and the evaluation of the epoch, which would be
    missing in it otherwise. A run that is resumed at its end takes no further step. The losses of the last steps are
    logged, whatever ``logging_steps``.
    """

    def __init__(self) -> None:
        self._steps_per_epoch = 1
        self._first_step = 0
        self._save_deferred = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take no step if the training is resumed at its end; the Trainer would in the middle of an epoch."""
        self._save_deferred = False
        self._steps_per_epoch = count_steps_per_epoch(args, state, kwargs.get("train_dataloader"))
        self._first_step = state.global_step
        if state.global_step >= state.max_steps:
            control.should_training_stop = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Log the last losses of the run, and defer a checkpoint until the log and the evaluation of its step."""
        ends_epoch = state.global_step % self._steps_per_epoch == 0 or state.global_step >= state.max_steps
        if state.global_step >= state.max_steps and args.logging_strategy == IntervalStrategy.STEPS:
            control.should_log = True  # of a run shorter than `logging_steps`, there would be no loss at all
        follows = IntervalStrategy.EPOCH in (args.eval_strategy, args.logging_strategy)
        if follows and ends_epoch and control.should_save:
            control.should_save, self._save_deferred = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Let the Trainer write the checkpoint that was deferred; do nothing again after a run's end."""
        if self._save_deferred:
            self._save_deferred, control.should_save = False, True
        if state.global_step == self._first_step:
            # Resumed at its end, after its last step or where it has stopped.
            control.should_log = control.should_evaluate = control.should_save = False
