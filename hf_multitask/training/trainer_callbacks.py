"""Callbacks of a `MultiTaskTrainer`, in the order in which they see an event."""

from contextlib import AbstractContextManager, nullcontext

from accelerate import Accelerator
from transformers import TrainerCallback

from ..freezing import FreezeCallback
from ..models import MultiTaskModel
from .arguments import MultiTaskTrainingArguments
from .divergence import DivergenceCheck, DivergenceHooks
from .early_stopping import ResumableEarlyStopping
from .ema import EMACallback, build_ema, refuse_averaged, replace_callback
from .epoch_end import EpochEndCallback
from .logged_sums import LoggedSums, LossSumsHooks
from .progress import replace_progress
from .task_log import TaskLog
from .tracking import TrackingCallback


class TrainerCallbacks:
    """Adds the callbacks of a trainer to those that it was given, and replaces those that belong to a model.

    Args:
        callbacks: Callbacks of the trainer.
        args: Arguments of the trainer.
        model: Its model, not wrapped.
        accelerator: Its accelerator.
        schedule: Callback of its freeze schedule, if it has one.
        sums: Callables of the trainer for `LoggedSums`.
        divergence: Callables of the trainer for `DivergenceCheck`.
    """

    def __init__(
        self,
        callbacks: list[TrainerCallback],
        args: MultiTaskTrainingArguments,
        model: MultiTaskModel,
        accelerator: Accelerator,
        schedule: FreezeCallback | None,
        sums: LossSumsHooks,
        divergence: DivergenceHooks,
    ) -> None:
        self.all = callbacks
        self.args = args
        self.progress = replace_progress(callbacks, shows_bar=not args.disable_tqdm)
        self.task_log = TaskLog(accelerator)
        self.logged_sums = LoggedSums(self.task_log, sums)
        self.tracking = TrackingCallback(callbacks, args, model)
        self.divergence = DivergenceCheck(self.task_log, divergence)
        self.ema: EMACallback | None = None
        self.early_stopping: ResumableEarlyStopping | None = None
        added = [
            self.task_log,
            self.logged_sums,
            schedule,
            # After the schedule's callback, which changes what this one marks.
            self.tracking if self.tracking.trackers else None,
            EpochEndCallback(),
            # After all that decide what is logged and saved.
            self.divergence,
        ]
        callbacks.extend(callback for callback in added if callback is not None)

    def follow(self, model: MultiTaskModel, accelerator: Accelerator) -> None:
        """Follow the training of a model from now on.

        Args:
            model: The model, not wrapped.
            accelerator: Its accelerator; a search makes a new one for each trial.
        """
        self.task_log.accelerator = accelerator
        self.tracking.set_model(model)
        ema = build_ema(model, self.args.ema_decay, accelerator.distributed_type)
        patience = self.args.early_stopping_patience
        stopping = None if patience is None else ResumableEarlyStopping(patience)
        # After the schedule's callback, which decides what trains.
        replace_callback(self.all, self.ema, ema)
        replace_callback(self.all, self.early_stopping, stopping)
        self.ema, self.early_stopping = ema, stopping

    def begin_training(self) -> None:
        """Begin the log and the average of a training."""
        self.task_log.reset()
        self.reset_average()

    # The moving average of the weights, if there is one.

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the average is the model's weights."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    def reset_average(self) -> None:
        """Begin the average with the model's weights."""
        if self.ema is not None:
            self.ema.reset()

    def settle_average(self) -> None:
        """Make the average the model's weights."""
        if self.ema is not None:
            self.ema.copy_to_model()

    def save_average(self, checkpoint: str) -> None:
        """Write the weights behind the average to a checkpoint."""
        if self.ema is not None and self.args.should_save:
            self.ema.save(checkpoint)

    def load_average(self, checkpoint: str) -> None:
        """Read the weights behind the average from a checkpoint.

        Raises:
            ValueError: If the model of the checkpoint is an average, and this training has none.
        """
        if self.ema is None:
            refuse_averaged(checkpoint)
        else:
            self.ema.load(checkpoint)
