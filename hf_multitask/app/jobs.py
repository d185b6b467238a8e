"""One training at a time, in a process of its own; all that is known of it is on disk, so a page can find it again."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from ..runs.config import RunConfig
from ..runs.output_dir import find_last_checkpoint
from ..runtime.atomic_files import read_json, write_json
from ..runtime.byte_sizes import format_bytes
from .choices import config_as_yaml
from .run_progress import STOP_NAME, RunProgress, read_progress
from .workspace import Workspace

RUN_NAME = "run"
JOB_DIR = "_app"
CONFIG_FILE = "config.yaml"
PROCESS_FILE = "process.json"
RESULT_FILE = "result.json"
LOG_FILE = "log.txt"
LOCK_FILE = "start.lock"
# A disk with less left is called full: a checkpoint of a small encoder takes more.
FULL_DISK_BYTES = 64 * 2**20

RUNNING, STOPPING, FINISHED, STOPPED, FAILED = "running", "stopping", "finished", "stopped", "failed"
ACTIVE = (RUNNING, STOPPING)


@dataclass(frozen=True)
class JobStatus:
    """What a training is at.

    Args:
        name: Name of its folder in the workspace.
        state: ``"running"``, ``"stopping"``, ``"finished"``, ``"stopped"`` or ``"failed"``.
        message: That in words, with what is kept.
        progress: How far it has come.
        metrics: The metrics by split, of one that is through.
    """

    name: str
    state: str
    message: str
    progress: RunProgress = field(default_factory=RunProgress)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether its process runs."""
        return self.state in ACTIVE


class Jobs:
    """The trainings of a workspace.

    Args:
        workspace: The workspace; its runs are ``app/run-1``, ``app/run-2``, …
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        # Of pages that press Start together, one comes first: threads of this process, or another app's.
        self._lock = FileLock(workspace.app_dir / LOCK_FILE)
        self._process: subprocess.Popen | None = None

    def start(self, config: RunConfig) -> str:
        """Start a training.

        Args:
            config: Its config; ``output_dir`` becomes a new folder of the workspace.

        Returns:
            The name of its folder.

        Raises:
            ValueError: If one runs already.
            OSError: If there is no room on the disk.
        """
        with self._lock:
            latest = self._latest_folder()
            if latest is not None and _is_alive(latest):
                name = self.workspace.name_of(latest)
                raise ValueError(f"{name} is training already: one training at a time. Wait for its end, or stop it.")
            if _is_full(self.workspace.root):
                raise OSError(_full_disk(self.workspace.root))
            output_dir = self.workspace.new_folder(self.workspace.app_dir, RUN_NAME)
            folder = output_dir / JOB_DIR
            folder.mkdir()
            (folder / CONFIG_FILE).write_text(
                config_as_yaml(replace(config, output_dir=str(output_dir))), encoding="utf-8"
            )
            with (folder / LOG_FILE).open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 (our own module)
                    [sys.executable, "-m", "hf_multitask.app.worker", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            # A number of a process may be given to another later: with its start it is this one.
            started = psutil.Process(self._process.pid).create_time()
            write_json(folder / PROCESS_FILE, {"pid": self._process.pid, "started": started})
            return self.workspace.name_of(output_dir)

    def stop(self) -> None:
        """Ask the training to stop behind its step and keep its checkpoint; asked a second time, end its process."""
        latest = self._latest_folder()
        if latest is None or not _is_alive(latest):
            return
        stop = latest / JOB_DIR / STOP_NAME
        if not stop.exists():
            stop.touch()
        elif process := _process_of(latest):
            process.terminate()

    def latest(self) -> JobStatus | None:
        """Return what the last training that was started is at; None before the first."""
        folder = self._latest_folder()
        if folder is None:
            return None
        # Its result is written before it ends: looked at in this order, there is no time between the two.
        alive = _is_alive(folder)
        if self._process is not None and not alive:
            self._process.poll()
        progress = read_progress(folder / JOB_DIR)
        asked_to_stop = (folder / JOB_DIR / STOP_NAME).exists()
        name = self.workspace.name_of(folder)
        if alive:
            state = STOPPING if asked_to_stop else RUNNING
            return JobStatus(name, state, _where(name, state, progress), progress)
        result = read_json(folder / JOB_DIR / RESULT_FILE)
        if result is None:
            result = {"state": STOPPED if asked_to_stop else FAILED, "reason": _last_words(folder / JOB_DIR)}
        message = self._outcome(folder, progress, **{key: result.get(key) for key in ("state", "reason")})
        return JobStatus(name, result["state"], message, progress, result.get("metrics") or {})

    def _outcome(self, folder: Path, progress: RunProgress, state: str, reason: str | None) -> str:
        """Say how a training ended and what is left of it."""
        name = self.workspace.name_of(folder)
        if state == FINISHED:
            return f"{name} is through. Its model can be tried."
        how = f"{name} was stopped at step {progress.step}" if state == STOPPED else f"{name} failed: {reason}"
        words = [f"{how.rstrip('.')}."]
        if state == FAILED and _is_full(self.workspace.root):
            words.append(_full_disk(self.workspace.root))
        checkpoint = find_last_checkpoint(folder)
        if checkpoint is None:
            return " ".join([*words, "It had written no checkpoint."])
        config = folder / JOB_DIR / CONFIG_FILE
        kept = f"Kept: {self.workspace.name_of(checkpoint)}; hf-multitask train {config} --resume goes on from it."
        return " ".join([*words, kept])

    def _latest_folder(self) -> Path | None:
        """Return the folder of the run with the highest number."""
        found = {}
        for path in self.workspace.app_dir.glob(f"{RUN_NAME}-*/{JOB_DIR}/{PROCESS_FILE}"):
            number = path.parents[1].name.removeprefix(f"{RUN_NAME}-")
            if number.isdigit():
                found[int(number)] = path.parents[1]
        return found[max(found)] if found else None


def _process_of(folder: Path) -> psutil.Process | None:
    """Return the process of a run; None where it has ended."""
    known: dict[str, Any] | None = read_json(folder / JOB_DIR / PROCESS_FILE)
    if known is None:
        return None
    try:
        process = psutil.Process(known["pid"])
        is_it = process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if is_it else None


def _is_alive(folder: Path) -> bool:
    return _process_of(folder) is not None


def _where(name: str, state: str, progress: RunProgress) -> str:
    if not progress.max_steps:
        where = "reads data and model"
    else:
        stage = f", stage {progress.stage!r}" if progress.stage else ""
        where = f"trains: step {progress.step} of {progress.max_steps}, epoch {progress.epoch:.1f}{stage}"
    if state == STOPPING:
        where += ". It stops behind this step and keeps its checkpoint; Stop again ends it at once"
    return f"{name} {where}."


def _last_words(folder: Path) -> str:
    """Return the last line that a process wrote before it ended without a result."""
    try:
        text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"its process ended without a result. Its last words: {lines[-1] if lines else 'none'}"


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < FULL_DISK_BYTES


def _full_disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"The disk of {str(folder)!r} is full: {format_bytes(free)} are free. Make room and start again."
