"""How far a training is: written by the process that trains, read by the app."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..models import TaskConfig
from ..reports.training_curves import main_metric
from ..runtime.atomic_files import read_json, write_json
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory

HISTORY_NAME = "progress.jsonl"
POSITION_NAME = "position.json"
STOP_NAME = "stop"
SECONDS_BETWEEN_NOTES = 0.5


@dataclass(frozen=True)
class RunProgress:
    """How far a training is.

    Args:
        step: Optimizer steps done.
        max_steps: Those of the whole run; 0 before the first.
        epoch: Epochs done.
        tasks: The tasks, with what the data say of them.
        history: The trainer's ``log_history`` so far.
    """

    step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    tasks: list[TaskConfig] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stage(self) -> str | None:
        """The stage that runs now."""
        names = [entry["freeze_stage"] for entry in self.history if entry.get("freeze_stage")]
        return names[-1] if names else None


class CurvePoint(NamedTuple):
    """A point of a curve."""

    epoch: float
    value: float
    curve: str


class ProgressWriter(TrainerCallback):
    """Writes what a trainer records into files, as it comes, and stops the training when the app asks for it.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False
        self._written = 0
        self._noted_at = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Say what the tasks are and how many steps there will be."""
        tasks = [task.to_dict() for task in model.config.tasks]
        (self.folder / HISTORY_NAME).write_text(json.dumps({"tasks": tasks}) + "\n", encoding="utf-8")
        self._written = 0
        self._note(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say how far the training is, and stop it where that is asked for, with what an epoch's end would do."""
        if time.monotonic() - self._noted_at > SECONDS_BETWEEN_NOTES:
            self._note(state)
        if (self.folder / STOP_NAME).exists():
            self.stopped = control.should_training_stop = True
            # At the end of an epoch, which this is now, these come by themselves.
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.STEPS
            control.should_save |= args.save_strategy != IntervalStrategy.EPOCH

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what was logged."""
        self._note(state)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what was measured."""
        self._note(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what is left."""
        self._note(state)

    def _note(self, state: TrainerState) -> None:
        new = state.log_history[self._written :]
        self._written = len(state.log_history)
        if new:
            with (self.folder / HISTORY_NAME).open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(entry) + "\n" for entry in new))
        position = {"step": state.global_step, "max_steps": state.max_steps, "epoch": state.epoch or 0.0}
        write_json(self.folder / POSITION_NAME, position)
        self._noted_at = time.monotonic()


def read_progress(folder: Path) -> RunProgress:
    """Read what `ProgressWriter` has written so far.

    Args:
        folder: Folder of the files.

    Returns:
        The progress; empty before the training has begun.
    """
    tasks: list[TaskConfig] = []
    history: list[dict[str, Any]] = []
    try:
        lines = (folder / HISTORY_NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return RunProgress()
    for line in lines:
        if line.endswith("\n"):  # the last may be half written
            entry = json.loads(line)
            if "tasks" in entry:
                tasks = [TaskConfig.from_dict(task) for task in entry["tasks"]]
            else:
                history.append(entry)
    return RunProgress(**(read_json(folder / POSITION_NAME) or {}), tasks=tasks, history=history)


def loss_curves(history: Sequence[Mapping[str, Any]], tasks: Sequence[TaskConfig]) -> list[CurvePoint]:
    """Return the losses of training and validation by task."""
    names = {f"{task.name}_loss": f"{task.name}, training" for task in tasks}
    names |= {f"{EVAL_PREFIX}{task.name}_loss": f"{task.name}, validation" for task in tasks}
    return _curves(history, names)


def score_curves(history: Sequence[Mapping[str, Any]], tasks: Sequence[TaskConfig]) -> list[CurvePoint]:
    """Return the main metric on validation by task."""
    metrics = {task.name: main_metric(task) for task in tasks}
    return _curves(history, {f"{EVAL_PREFIX}{name}_{metric}": f"{name}, {metric}" for name, metric in metrics.items()})


def _curves(history: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[CurvePoint]:
    record = TrainingHistory(history)
    return [CurvePoint(*point, curve) for name, curve in names.items() for point in record.points(name)]
