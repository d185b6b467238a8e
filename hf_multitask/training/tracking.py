"""Trackers of a training: TensorBoard and trackio, beyond the Trainer's own logs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.integrations.integration_utils import default_logdir

from ..models.type_aliases import JsonObject

STAGE_TAG = "freeze/stage"
PARAMETERS_TAG = "freeze/trainable_parameters"


class TrackingCallback(TrainerCallback):
    """Marks the stages of a freeze schedule in the trackers of a training, and logs further results there.

    Args:
        callbacks: Callbacks of the trainer. The callbacks of TensorBoard and trackio are its trackers.
        args: Arguments of the trainer.
        model: The model.
    """

    def __init__(self, callbacks: Iterable[TrainerCallback], args: TrainingArguments, model: PreTrainedModel) -> None:
        self.trackers: list[_TensorBoard | _Trackio] = []
        for callback in callbacks:
            if isinstance(callback, TensorBoardCallback):
                self.trackers.append(_TensorBoard(callback, args))
            elif isinstance(callback, TrackioCallback):
                self.trackers.append(_Trackio(callback, args, model))
        # Number of entries of the log that have been searched for stages.
        self._num_seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Skip the stages that a resumed run has marked before."""
        self._num_seen = len(state.log_history)
        if state.is_world_process_zero:
            for tracker in self.trackers:
                tracker.begin(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Mark a stage that begins with this step."""
        self._mark_stages(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Mark the end of the schedule."""
        self._mark_stages(state)

    def set_model(self, model: PreTrainedModel) -> None:
        """Log a model from now on."""
        for tracker in self.trackers:
            if isinstance(tracker, _Trackio):
                tracker.model = model

    def log_table(
        self, tag: str, header: Sequence[str], rows: Sequence[Sequence[str]], markdown: str, step: int
    ) -> None:
        """Log a table; on the main process only.

        Args:
            tag: Name of the table.
            header: Titles of the columns.
            rows: Cells by row.
            markdown: The table as Markdown, with its caption, for trackers that show text.
            step: Optimizer step.
        """
        for tracker in self.trackers:
            tracker.log_table(tag, header, rows, markdown, step)

    def log_image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Log an image; on the main process only.

        Args:
            tag: Name of the image.
            image: Pixels (height, width, 3).
            step: Optimizer step.
        """
        for tracker in self.trackers:
            tracker.log_image(tag, image, step)

    def finish(self) -> None:
        """End logging; on the main process only."""
        for tracker in self.trackers:
            tracker.finish()

    def _mark_stages(self, state: TrainerState) -> None:
        new, self._num_seen = state.log_history[self._num_seen :], len(state.log_history)
        for entry in new:
            if "freeze_stage" in entry and state.is_world_process_zero:
                for tracker in self.trackers:
                    tracker.log_stage(entry)


class _TensorBoard:
    """Writes with the writer of the Trainer's callback."""

    def __init__(self, callback: TensorBoardCallback, args: TrainingArguments) -> None:
        self.callback = callback
        if callback.logging_dir is None:
            # Without a training, the callback would write to the working directory.
            callback.logging_dir = str(Path(str(args.output_dir), default_logdir()))

    @property
    def writer(self) -> Any:
        """The writer, opened again if the end of the training has closed it."""
        if self.callback.tb_writer is None:
            self.callback._init_summary_writer(None)
        return self.callback.tb_writer

    def begin(self, state: TrainerState) -> None:
        """Do nothing: the callback opens its writer itself."""

    def log_stage(self, entry: JsonObject) -> None:
        step = entry["step"]
        self.writer.add_text(STAGE_TAG, _format_stage(entry), step)
        if "trainable_parameters" in entry:
            self.writer.add_scalar(PARAMETERS_TAG, entry["trainable_parameters"], step)

    def log_table(
        self, tag: str, header: Sequence[str], rows: Sequence[Sequence[str]], markdown: str, step: int
    ) -> None:
        self.writer.add_text(tag, markdown, step)

    def log_image(self, tag: str, image: np.ndarray, step: int) -> None:
        self.writer.add_image(tag, image, step, dataformats="HWC")

    def finish(self) -> None:
        self.writer.flush()


class _Trackio:
    """Logs to the run that the Trainer's callback has begun."""

    def __init__(self, callback: TrackioCallback, args: TrainingArguments, model: PreTrainedModel) -> None:
        self.callback = callback
        self.args = args
        self.model = model
        # Replaced by the training's own, if there is one.
        self.state = TrainerState(is_world_process_zero=args.process_index == 0)
        self.trackio = callback._trackio

    def begin(self, state: TrainerState) -> None:
        """Keep the run's name, because the callback ends the run with the training and results follow later."""
        self.state = state
        run = self.trackio.context_vars.current_run.get()
        if self.args.run_name is None and run is not None:
            self.args.run_name = run.name

    def log_stage(self, entry: JsonObject) -> None:
        values = {STAGE_TAG: _format_stage(entry)}
        if "trainable_parameters" in entry:
            values[PARAMETERS_TAG] = entry["trainable_parameters"]
        self._log(values, entry["step"])

    def log_table(
        self, tag: str, header: Sequence[str], rows: Sequence[Sequence[str]], markdown: str, step: int
    ) -> None:
        import pandas as pd

        frame = pd.DataFrame([list(row) for row in rows], columns=list(header))
        self._log({tag: self.trackio.Table(dataframe=frame)}, step)

    def log_image(self, tag: str, image: np.ndarray, step: int) -> None:
        self._log({tag: self.trackio.Image(image)}, step)

    def finish(self) -> None:
        if self.callback._initialized:
            self.trackio.finish()
            self.callback._initialized = False

    def _log(self, values: JsonObject, step: int) -> None:
        if not self.callback._initialized:
            self.callback.setup(self.args, self.state, self.model)
        self.trackio.log({**values, "train/global_step": step})


def _format_stage(entry: JsonObject) -> str:
    if entry["freeze_stage"] is None:
        return f"the freeze schedule is at its end: {entry['freeze_reason']}"
    return f"{entry['freeze_stage']} ({entry['freeze_reason']}): {entry['trainable_parameters']:,} parameters train"
