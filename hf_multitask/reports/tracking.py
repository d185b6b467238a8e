"""What TensorBoard and trackio are told beside the Trainer's own logs: stages, metrics by class, pictures."""

import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.integrations.integration_utils import default_logdir

from ..models.tasks import REGRESSION
from ..runtime.extras import missing_packages
from .figure_style import to_png
from .page import Table, markdown_table
from .training_curves import draw_curves
from .training_report import TrainingRecord, class_table, draw_predictions

STAGE_TAG = "freeze/stage"
PARAMETERS_TAG = "freeze/trainable_parameters"


class TrackingCallback(TrainerCallback):
    """Tells the trackers of a run what the Trainer's logs leave out.

    The changes of stage are told when they happen; metrics by class and the report's pictures by `report_results`.

    Args:
        trainer: The trainer; its callbacks of TensorBoard and trackio are the trackers.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trackers: list[_TensorBoard | _Trackio] = []
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                self.trackers.append(_TensorBoard(callback, trainer))
            elif isinstance(callback, TrackioCallback):
                self.trackers.append(_Trackio(callback, trainer))
        self.num_seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass over what a run that is resumed has told already."""
        self.num_seen = len(state.log_history)
        if state.is_world_process_zero:
            for tracker in self.trackers:
                tracker.begin()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of a stage that begins with this step."""
        self._report_stages(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of the end of the schedule."""
        self._report_stages(state)

    def _report_stages(self, state: TrainerState) -> None:
        new, self.num_seen = state.log_history[self.num_seen :], len(state.log_history)
        for entry in new:
            if "freeze_stage" in entry and state.is_world_process_zero:
                for tracker in self.trackers:
                    tracker.log_stage(entry)

    def report_results(self, record: TrainingRecord, step: int) -> None:
        """Tell the metrics by class and show the pictures of a run's report; on the main process.

        Args:
            record: The run.
            step: Its last step.
        """
        for tracker in self.trackers:
            for tag, table in _tables(record):
                tracker.log_table(tag, table, step)
            for tag, image in _pictures(record):
                tracker.log_picture(tag, image, step)
            tracker.finish()


class _TensorBoard:
    """Writes through the writer of the Trainer's callback."""

    def __init__(self, callback: TensorBoardCallback, trainer: Trainer) -> None:
        self.callback = callback
        if callback.logging_dir is None:
            # Where nothing is trained, the Trainer's callback would write into the working directory.
            callback.logging_dir = os.path.join(trainer.args.output_dir, default_logdir())

    @property
    def writer(self) -> Any:
        """The writer, opened again where the end of the training has closed it."""
        if self.callback.tb_writer is None:
            self.callback._init_summary_writer(None)
        return self.callback.tb_writer

    def begin(self) -> None:
        """Do nothing: the callback has opened its writer."""

    def log_stage(self, entry: Mapping[str, Any]) -> None:
        step = entry["step"]
        self.writer.add_text(STAGE_TAG, _stage_in_words(entry), step)
        if "trainable_parameters" in entry:
            self.writer.add_scalar(PARAMETERS_TAG, entry["trainable_parameters"], step)

    def log_table(self, tag: str, table: Table, step: int) -> None:
        self.writer.add_text(tag, markdown_table(table), step)

    def log_picture(self, tag: str, image: np.ndarray, step: int) -> None:
        self.writer.add_image(tag, image, step, dataformats="HWC")

    def finish(self) -> None:
        self.writer.flush()


class _Trackio:
    """Logs to the run that the Trainer's callback has begun."""

    def __init__(self, callback: TrackioCallback, trainer: Trainer) -> None:
        self.callback = callback
        self.trainer = trainer
        self.trackio = callback._trackio

    def begin(self) -> None:
        """Keep the run's name: the callback ends it with the training, and what is scored afterwards belongs to it."""
        args, run = self.trainer.args, self.trackio.context_vars.current_run.get()
        if args.run_name is None and run is not None:
            args.run_name = run.name

    def log_stage(self, entry: Mapping[str, Any]) -> None:
        values = {STAGE_TAG: _stage_in_words(entry)}
        if "trainable_parameters" in entry:
            values[PARAMETERS_TAG] = entry["trainable_parameters"]
        self._log(values, entry["step"])

    def log_table(self, tag: str, table: Table, step: int) -> None:
        import pandas as pd

        frame = pd.DataFrame([list(row) for row in table.rows], columns=list(table.header))
        self._log({tag: self.trackio.Table(dataframe=frame)}, step)

    def log_picture(self, tag: str, image: np.ndarray, step: int) -> None:
        self._log({tag: self.trackio.Image(image)}, step)

    def finish(self) -> None:
        if self.callback._initialized:
            self.trackio.finish()
            self.callback._initialized = False

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if not self.callback._initialized:
            self.callback.setup(self.trainer.args, self.trainer.state, self.trainer.model)
        self.trackio.log({**values, "train/global_step": step})


def _tables(record: TrainingRecord) -> Iterator[tuple[str, Table]]:
    for split, result in record.results.items():
        for task in record.tasks:
            if task.problem_type != REGRESSION and result.has_labels(task):
                yield f"{split}_by_class/{task.name}", class_table(task, split, result)


def _pictures(record: TrainingRecord) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the pictures of a run as pixels (height, width, 3); none where the packages for it are missing."""
    if missing_packages("reports"):
        return
    if record.was_trained:
        yield "report/curves", _pixels(draw_curves(record.history, record.stages, record.tasks))
    for split, result in record.results.items():
        for task in record.tasks:
            figure = draw_predictions(task, result) if result.has_labels(task) else None
            if figure is not None:
                yield f"report/{split}_{task.name}", _pixels(figure)


def _pixels(figure: Any) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


def _stage_in_words(entry: Mapping[str, Any]) -> str:
    if entry["freeze_stage"] is None:
        return f"the freeze schedule is at its end: {entry['freeze_reason']}"
    return f"{entry['freeze_stage']} ({entry['freeze_reason']}): {entry['trainable_parameters']:,} parameters train"
