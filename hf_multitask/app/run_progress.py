"""Progress of a run, written by the training process and read by the app."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..models import TaskConfig
from ..models.type_aliases import JsonObject
from ..reports.training_curves import main_metric
from ..runtime.atomic_files import read_json, to_json, write_json
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory

HISTORY_NAME = "progress.jsonl"
POSITION_NAME = "position.json"
STOP_NAME = "stop"
SECONDS_BETWEEN_WRITES = 0.5
# The first steps are slower than the others.
MIN_STEPS_TIMED = 5


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run.

    Args:
        step: Optimizer steps so far.
        max_steps: Optimizer steps of the whole run, or 0 if training has not started.
        epoch: Epochs so far.
        tasks: The tasks, with the labels found in the data.
        history: ``log_history`` of the trainer so far.
        seconds_left: Estimate of the remaining time; None before the first steps.
    """

    step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    tasks: list[TaskConfig] = field(default_factory=list)
    history: list[JsonObject] = field(default_factory=list)
    seconds_left: float | None = None

    @property
    def stage(self) -> str | None:
        """The current stage, if the run has a schedule."""
        names = [entry["freeze_stage"] for entry in self.history if entry.get("freeze_stage")]
        return names[-1] if names else None


class CurvePoint(NamedTuple):
    """A point of a curve."""

    epoch: float
    value: float
    curve: str


class ProgressWriter(TrainerCallback):
    """Writes the trainer's log to files during training, and stops training if the app asks for it.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False
        self._written = 0
        self._last_write = 0.0
        self._start = (0.0, 0)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: object,
    ) -> None:
        """Write the tasks and the number of steps."""
        tasks = [task.to_dict() for task in model.config.tasks]
        (self.folder / HISTORY_NAME).write_text(to_json({"tasks": tasks}) + "\n", encoding="utf-8")
        self._written = 0
        # A resumed run is timed from the step it resumes at.
        self._start = (time.monotonic(), state.global_step)
        self._write(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the progress, and stop training if asked to, with the evaluation and checkpoint of an epoch's end."""
        if time.monotonic() - self._last_write > SECONDS_BETWEEN_WRITES:
            self._write(state)
        if (self.folder / STOP_NAME).exists():
            self.stopped = control.should_training_stop = True
            # Stopping ends the epoch, and strategies by epoch then evaluate and save without these flags.
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.STEPS
            control.should_save |= args.save_strategy != IntervalStrategy.EPOCH

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the new log entries."""
        self._write(state)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the new metrics."""
        self._write(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the last log entries."""
        self._write(state)

    def _write(self, state: TrainerState) -> None:
        new = state.log_history[self._written :]
        self._written = len(state.log_history)
        if new:
            with (self.folder / HISTORY_NAME).open("a", encoding="utf-8") as file:
                file.write("".join(to_json(entry) + "\n" for entry in new))
        position = {
            "step": state.global_step,
            "max_steps": state.max_steps,
            "epoch": state.epoch or 0.0,
            "seconds_left": self._seconds_left(state),
        }
        write_json(self.folder / POSITION_NAME, position)
        self._last_write = time.monotonic()

    def _seconds_left(self, state: TrainerState) -> float | None:
        since, first_step = self._start
        done = state.global_step - first_step
        if done < MIN_STEPS_TIMED:
            return None
        return (time.monotonic() - since) / done * (state.max_steps - state.global_step)


def read_progress(folder: Path) -> RunProgress:
    """Read the files of `ProgressWriter`.

    Args:
        folder: Folder of the files.

    Returns:
        The progress, empty if training has not started.
    """
    tasks: list[TaskConfig] = []
    history: list[JsonObject] = []
    try:
        lines = (folder / HISTORY_NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return RunProgress()
    for line in lines:
        if line.endswith("\n"):  # The last line may be incomplete.
            entry = json.loads(line)
            if "tasks" in entry:
                tasks = [TaskConfig.from_dict(task) for task in entry["tasks"]]
            else:
                history.append(entry)
    return RunProgress(**(read_json(folder / POSITION_NAME) or {}), tasks=tasks, history=history)


def loss_curves(history: Sequence[JsonObject], tasks: Sequence[TaskConfig]) -> list[CurvePoint]:
    """Return the training and validation losses of each task."""
    names = {f"{task.name}_loss": f"{task.name}, training" for task in tasks}
    names |= {f"{EVAL_PREFIX}{task.name}_loss": f"{task.name}, validation" for task in tasks}
    return _curves(history, names)


def score_curves(history: Sequence[JsonObject], tasks: Sequence[TaskConfig]) -> list[CurvePoint]:
    """Return the main metric of each task on validation."""
    metrics = {task.name: main_metric(task) for task in tasks}
    return _curves(history, {f"{EVAL_PREFIX}{name}_{metric}": f"{name}, {metric}" for name, metric in metrics.items()})


def _curves(history: Sequence[JsonObject], names: Mapping[str, str]) -> list[CurvePoint]:
    record = TrainingHistory(history)
    return [CurvePoint(*point, curve) for name, curve in names.items() for point in record.points(name)]
