"""A process that the app has started. Its state is on disk only, so that a page which is opened later finds it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import read_json, write_json
from ..runtime.byte_sizes import format_bytes
from .run_progress import STOP_NAME
from .workspace import JOB_DIR, STUDY_JOBS_DIR, Workspace

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
class JobProcess:
    """A process and the folder that it reports to.

    Args:
        folder: Folder with ``process.json``, the log and the result.
    """

    folder: Path

    @property
    def started(self) -> float:
        """Time at which the process was started; 0 if the folder was deleted."""
        return (read_json(self.folder / PROCESS_FILE) or {}).get("started", 0.0)

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._find() is not None

    @property
    def asked_to_stop(self) -> bool:
        """Whether the app has asked the process to stop."""
        return (self.folder / STOP_NAME).exists()

    def state(self) -> str:
        """Return the state of the process, one of the constants of this module."""
        # The process writes its result before it ends. Checked in this order, an ended job always has its result.
        if self.is_alive:
            return STOPPING if self.asked_to_stop else RUNNING
        return self.result()["state"]

    def result(self) -> JsonObject:
        """Return the result of a process that has ended: its state, and what the process has added."""
        result = read_json(self.folder / RESULT_FILE)
        if result is not None:
            return result
        return {"state": STOPPED} if self.asked_to_stop else {"state": FAILED, "reason": self._crash_reason()}

    def stop(self) -> None:
        """Ask the process to stop after what it is doing. The second call terminates it."""
        if not self.asked_to_stop:
            (self.folder / STOP_NAME).touch()
        elif process := self._find():
            process.terminate()

    def _find(self) -> psutil.Process | None:
        """Return the process, or None if it has ended."""
        known: JsonObject | None = read_json(self.folder / PROCESS_FILE)
        if known is None:
            return None
        try:
            process = psutil.Process(known["pid"])
            is_same = process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_same else None

    def _crash_reason(self) -> str:
        """Return the error for a process that ended without a result, with the last line of its log."""
        try:
            text = (self.folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"its process ended without a result. Last line of its log: {lines[-1] if lines else 'none'}"


class Launcher:
    """Starts processes, one at a time: two trainings would share the memory and take twice as long.

    Args:
        workspace: Workspace of the jobs.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        # Pages can start jobs at the same time, from threads of this process or from another app.
        self._lock = FileLock(workspace.app_dir / LOCK_FILE)
        self._started: list[subprocess.Popen] = []

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Make sure that no job is running and none is started by somebody else inside.

        Raises:
            ValueError: If a job is running.
            OSError: If the disk is full.
        """
        with self._lock:
            if active := self.active():
                raise ValueError(
                    f"{self.name_of(active)} is training already. Only one training runs at a time: wait until it has "
                    "finished, or stop it."
                )
            if is_full(self.workspace.root):
                raise OSError(full_disk(self.workspace.root))
            yield

    @contextmanager
    def turn_of(self, name: str | None) -> Iterator[None]:
        """Make sure that a job is not running, and none is started by somebody else inside.

        Args:
            name: Name of the job.

        Raises:
            ValueError: If the job is running.
        """
        with self._lock:
            active = self.active()
            if active is not None and self.name_of(active) == name:
                raise ValueError(f"{name} is training. Stop it first.")
            yield

    def launch(self, job: JobProcess, module: str, *arguments: str) -> None:
        """Start the process of a job. Only for the time of `turn`.

        Args:
            job: The job. What an earlier process has reported is removed.
            module: Module to run.
            arguments: Arguments after the folder of the job.
        """
        for name in (STOP_NAME, RESULT_FILE):
            (job.folder / name).unlink(missing_ok=True)
        with (job.folder / LOG_FILE).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-m", module, str(job.folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started = [child for child in self._started if child.poll() is None] + [process]
        # Another process may get the same id later: the start time tells them apart.
        started = psutil.Process(process.pid).create_time()
        write_json(job.folder / PROCESS_FILE, {"pid": process.pid, "started": started})

    def active(self) -> JobProcess | None:
        """Return the job that is running, if any."""
        return next((job for job in self.jobs(JOB_DIR, "") if job.is_alive), None) or next(
            (job for job in self.jobs("", STUDY_JOBS_DIR) if job.is_alive), None
        )

    def jobs(self, inner: str, outer: str) -> Iterator[JobProcess]:
        """Yield the jobs whose folders are ``app/<outer>/<name>/<inner>``."""
        for path in (self.workspace.app_dir / outer).glob(str(Path("*", inner, PROCESS_FILE))):
            if not path.relative_to(self.workspace.app_dir).parts[0].startswith("."):  # A run that is being deleted.
                yield JobProcess(path.parent)

    def name_of(self, job: JobProcess) -> str:
        """Return the name of a job on the page."""
        folder = job.folder.parent if job.folder.name == JOB_DIR else self.workspace.app_dir / job.folder.name
        return self.workspace.name_of(folder)


def is_full(folder: Path) -> bool:
    """Return whether the disk of a folder is full."""
    return shutil.disk_usage(folder).free < FULL_DISK_BYTES


def full_disk(folder: Path) -> str:
    """Return the message about a full disk."""
    free = shutil.disk_usage(folder).free
    return f"The disk of {str(folder)!r} is full: {format_bytes(free)} are free. Free some space and start again."
