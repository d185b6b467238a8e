"""Runs in processes of their own, forked from one that has imported everything, and killed at a moment."""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_multitask.models.type_aliases import JsonObject
from hf_multitask.runs import report
from hf_multitask.runs.config import RunConfig
from hf_multitask.runs.output_dir import find_last_checkpoint, has_unfinished_folds
from hf_multitask.runs.training import run_training

OUTCOME_NAME = "outcome.pt"
LOG_NAME = "log.txt"
CHANGES_NAME = "changes.json"
# Audit events of Python that change files or folders.
_FILE_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
# Stands for names that differ from run to run.
_TEMPORARY = "tmp"
_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Kill:
    """Moment at which a run dies by SIGKILL: after a time, or when it changes a file or folder.

    Args:
        seconds: Seconds after the start.
        file: Name of the file or folder.
        change: Number of the change of files of this name, from 1.
    """

    seconds: float | None = None
    file: str | None = None
    change: int = 1


@dataclass(frozen=True)
class Length:
    """Length of an uninterrupted run, in which moments are drawn.

    Args:
        seconds: Its seconds.
        changes: Number of changes of files and folders, by their name.
    """

    seconds: float
    changes: dict[str, int]

    def draw(self, generator: random.Random) -> Kill:
        """Draw a moment, half of the time by the clock and half of the time by the files."""
        if generator.random() < 0.5:
            return Kill(seconds=generator.uniform(0, self.seconds))
        file = generator.choice(list(self.changes))
        return Kill(file=file, change=generator.randint(1, self.changes[file]))


class _OutcomeCallback(TrainerCallback):
    """Writes at the end of a training what two runs are compared by, besides their model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Write the states of optimizer and scheduler, and the history."""
        states = {name: kwargs[name].state_dict() for name in ("optimizer", "lr_scheduler")}  # type: ignore[attr-defined]
        torch.save({**states, "history": state.log_history, "steps": state.global_step}, self.path)


def run(config: JsonObject, kill: Kill | None = None) -> int:
    """Train in a new process, from the last checkpoint if there is one.

    Args:
        config: Config of the run. Its output folder is in a folder of its own, which the process writes to.
        kill: Moment of its death; None to let it end.

    Returns:
        Exit code; that of a killed process is negative.
    """
    child = os.fork()
    if child == 0:
        _train(config, kill)
    if kill is not None and kill.seconds is not None:
        end = time.monotonic() + kill.seconds
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(_POLL_SECONDS)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _train(config: JsonObject, kill: Kill | None) -> None:
    """Train in a forked process, and end it."""
    folder = Path(config["output_dir"]).parent
    status = 1
    log = os.open(folder / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    try:
        changes = _count_changes(folder, kill)
        # Killed while it is written, like any other folder.
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        # Drawn at the end of a run, from what is compared; it would take a third of the time.
        report.missing_packages = lambda extra: [extra]
        output_dir = Path(config["output_dir"])
        resume = find_last_checkpoint(output_dir) is not None or has_unfinished_folds(output_dir)
        callback = _OutcomeCallback(folder / OUTCOME_NAME)
        run_training(RunConfig.from_dict(config), resume=resume, callbacks=[callback])
        (folder / CHANGES_NAME).write_text(json.dumps(changes))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _count_changes(folder: Path, kill: Kill | None) -> Counter[str]:
    """Count the changes of files in a folder from now on, and die at one of them."""
    changes: Counter[str] = Counter()
    # The workers of a dataloader inherit the hook.
    process = os.getpid()
    inside = f"{folder}{os.sep}"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _FILE_EVENTS or not str(arguments[0]).startswith(inside) or os.getpid() != process:
            return
        name = Path(str(arguments[0])).name
        # The code that is saved with a model is most of its files.
        if name.endswith(".py") or (event == "open" and not _writes(arguments[2])):
            return
        name = _TEMPORARY if name.startswith((_TEMPORARY, f"_{_TEMPORARY}")) else name
        changes[name] += 1
        if kill is not None and (name, changes[name]) == (kill.file, kill.change):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return changes


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
