"""Training jobs, one at a time, each in a separate process.

The state of a job is on disk only, so that a page which is opened later finds it.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from filelock import FileLock

from ..models.type_aliases import JsonObject
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
# A disk with less free space counts as full: a checkpoint of a small encoder is larger.
FULL_DISK_BYTES = 64 * 2**20

RUNNING, STOPPING, FINISHED, STOPPED, FAILED = "running", "stopping", "finished", "stopped", "failed"
ACTIVE = (RUNNING, STOPPING)


@dataclass(frozen=True)
class JobStatus:
    """State of a training job.

    Args:
        name: Name of the run's folder in the workspace.
        state: ``"running"``, ``"stopping"``, ``"finished"``, ``"stopped"`` or ``"failed"``.
        message: Description of the state for the page, with the checkpoint that was kept.
        progress: Progress of the run.
        metrics: Metrics by split, if the run has finished.
    """

    name: str
    state: str
    message: str
    progress: RunProgress = field(default_factory=RunProgress)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether the process of the job is running."""
        return self.state in ACTIVE


class Jobs:
    """Training jobs of a workspace.

    Args:
        workspace: The workspace. Runs are in ``app/run-1``, ``app/run-2``, and so on.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        # Pages can start jobs at the same time, from threads of this process or from another app.
        self._lock = FileLock(workspace.app_dir / LOCK_FILE)
        self._process: subprocess.Popen | None = None

    def start(self, config: RunConfig) -> str:
        """Start a training job.

        Args:
            config: Config of the run. Its ``output_dir`` is replaced by a new folder of the workspace.

        Returns:
            The name of that folder.

        Raises:
            ValueError: If a job is running already.
            OSError: If the disk is full.
        """
        with self._lock:
            latest = self._latest_folder()
            if latest is not None and _is_alive(latest):
                name = self.workspace.name_of(latest)
                raise ValueError(
                    f"{name} is training already: only one run at a time. Wait until it ends, or stop it."
                )
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
            # Another process may get the same id later: the start time tells them apart.
            started = psutil.Process(self._process.pid).create_time()
            write_json(folder / PROCESS_FILE, {"pid": self._process.pid, "started": started})
            return self.workspace.name_of(output_dir)

    def stop(self) -> None:
        """Ask the job to stop after its current step and save a checkpoint. The second call terminates its process."""
        latest = self._latest_folder()
        if latest is None or not _is_alive(latest):
            return
        stop = latest / JOB_DIR / STOP_NAME
        if not stop.exists():
            stop.touch()
        elif process := _process_of(latest):
            process.terminate()

    def latest(self) -> JobStatus | None:
        """Return the state of the job that was started last, or None if there is none."""
        folder = self._latest_folder()
        if folder is None:
            return None
        # The process writes its result before it ends. Checked in this order, an ended job always has its result.
        alive = _is_alive(folder)
        if self._process is not None and not alive:
            self._process.poll()
        progress = read_progress(folder / JOB_DIR)
        asked_to_stop = (folder / JOB_DIR / STOP_NAME).exists()
        name = self.workspace.name_of(folder)
        if alive:
            state = STOPPING if asked_to_stop else RUNNING
            return JobStatus(name, state, _describe_progress(name, state, progress), progress)
        result = read_json(folder / JOB_DIR / RESULT_FILE)
        if result is None:
            result = {"state": STOPPED if asked_to_stop else FAILED, "reason": _crash_reason(folder / JOB_DIR)}
        message = self._outcome(folder, progress, **{key: result.get(key) for key in ("state", "reason")})
        return JobStatus(name, result["state"], message, progress, result.get("metrics") or {})

    def _outcome(self, folder: Path, progress: RunProgress, state: str, reason: str | None) -> str:
        """Return how a run ended and which checkpoint was kept."""
        name = self.workspace.name_of(folder)
        if state == FINISHED:
            return f"{name} is finished. Its model can be tried."
        how = f"{name} was stopped at step {progress.step}" if state == STOPPED else f"{name} failed: {reason}"
        words = [f"{how.rstrip('.')}."]
        if state == FAILED and _is_full(self.workspace.root):
            words.append(_full_disk(self.workspace.root))
        checkpoint = find_last_checkpoint(folder)
        if checkpoint is None:
            return " ".join([*words, "It has no checkpoint."])
        config = folder / JOB_DIR / CONFIG_FILE
        kept = f"Kept: {self.workspace.name_of(checkpoint)}; hf-multitask train {config} --resume continues from it."
        return " ".join([*words, kept])

    def _latest_folder(self) -> Path | None:
        """Return the folder of the run with the highest number."""
        folders = {}
        for path in self.workspace.app_dir.glob(f"{RUN_NAME}-*/{JOB_DIR}/{PROCESS_FILE}"):
            number = path.parents[1].name.removeprefix(f"{RUN_NAME}-")
            if number.isdigit():
                folders[int(number)] = path.parents[1]
        return folders[max(folders)] if folders else None


def _process_of(folder: Path) -> psutil.Process | None:
    """Return the process of a run, or None if it has ended."""
    known: JsonObject | None = read_json(folder / JOB_DIR / PROCESS_FILE)
    if known is None:
        return None
    try:
        process = psutil.Process(known["pid"])
        is_same = process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if is_same else None


def _is_alive(folder: Path) -> bool:
    return _process_of(folder) is not None


def _describe_progress(name: str, state: str, progress: RunProgress) -> str:
    if not progress.max_steps:
        text = "loads data and model"
    else:
        stage = f", stage {progress.stage!r}" if progress.stage else ""
        text = f"trains: step {progress.step} of {progress.max_steps}, epoch {progress.epoch:.1f}{stage}"
    if state == STOPPING:
        text += ". It stops after this step and saves a checkpoint. Stop again to end it at once"
    return f"{name} {text}."


def _crash_reason(folder: Path) -> str:
    """Return the error for a process that ended without a result, with the last line of its log."""
    try:
        text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"its process ended without a result. Last line of its log: {lines[-1] if lines else 'none'}"


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < FULL_DISK_BYTES


def _full_disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"The disk of {str(folder)!r} is full: {format_bytes(free)} are free. Free some space and start again."
