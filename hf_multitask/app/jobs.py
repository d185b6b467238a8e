"""Training runs of the app, each in a process and a folder of its own."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..models.type_aliases import JsonObject
from ..reports.mistakes_file import MISTAKES_NAME
from ..runs.config import RunConfig
from ..runs.output_dir import find_last_checkpoint, has_unfinished_folds
from ..runtime.atomic_files import read_json
from .choices import config_as_yaml
from .durations import in_words
from .job_process import ACTIVE, CONFIG_FILE, FAILED, FINISHED, STOPPED, JobProcess, Launcher, full_disk, is_full
from .run_folders import delete_run, rename_run
from .run_progress import RunProgress, read_progress
from .workspace import JOB_DIR, Workspace, look_up

RUN_NAME = "run"
WORKER = "hf_multitask.app.worker"
RESUME = "--resume"


@dataclass(frozen=True)
class JobStatus:
    """State of a training job.

    Args:
        name: Name of the run's folder in the workspace.
        state: ``"running"``, ``"stopping"``, ``"finished"``, ``"stopped"`` or ``"failed"``.
        message: Description of the state for the page, with the checkpoint that was kept.
        progress: Progress of the run.
        metrics: Metrics by split, if the run has finished.
        can_resume: Whether the run has ended before its end and can continue from a checkpoint.
        mistakes: Worst mistakes by task, as in ``mistakes.json``, if the run has finished.
    """

    name: str
    state: str
    message: str
    progress: RunProgress = field(default_factory=RunProgress)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    can_resume: bool = False
    mistakes: list[JsonObject] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        """Whether the process of the job is running."""
        return self.state in ACTIVE


class Jobs:
    """Training runs of a workspace.

    Args:
        workspace: The workspace. Runs are in ``app/run-1``, ``app/run-2``, and so on, until they are renamed.
        launcher: Starts the processes. Studies of the same workspace use the same one.
    """

    def __init__(self, workspace: Workspace, launcher: Launcher | None = None) -> None:
        self.workspace = workspace
        self.launcher = launcher or Launcher(workspace)

    def start(self, config: RunConfig) -> str:
        """Start a training run.

        Args:
            config: Config of the run. Its ``output_dir`` is replaced by a new folder of the workspace.

        Returns:
            The name of that folder.

        Raises:
            ValueError: If a job is running already.
            OSError: If the disk is full.
        """
        with self.launcher.turn():
            output_dir = self.workspace.new_folder(self.workspace.app_dir, RUN_NAME)
            job = _job_of(output_dir)
            job.folder.mkdir()
            _write_config(job, config, output_dir)
            self.launcher.launch(job, WORKER)
            return self.workspace.name_of(output_dir)

    def resume(self, name: str | None) -> None:
        """Continue a run that ended before its end from its last checkpoint.

        Args:
            name: Name of the run.

        Raises:
            ValueError: If there is no such run, it cannot be resumed, or a job is running already.
            OSError: If the disk is full.
        """
        with self.launcher.turn():
            folder = self._folder(name)
            job = _job_of(folder)
            if not _can_resume(job, folder):
                raise ValueError(f"{name} can't be resumed: it has finished, or it has no checkpoint.")
            # The run may have been renamed since.
            _write_config(job, RunConfig.from_file(job.folder / CONFIG_FILE), folder)
            self.launcher.launch(job, WORKER, RESUME)

    def stop(self) -> None:
        """Ask the running job to stop after its current step and save a checkpoint. The second call terminates it."""
        active = self.launcher.active()
        if active is not None and active.folder.name == JOB_DIR:
            active.stop()

    def names(self) -> list[str]:
        """Return the names of all runs, the one that was started last first."""
        jobs = sorted(self.launcher.jobs(JOB_DIR, ""), key=lambda job: -job.started)
        return [self.workspace.name_of(job.folder.parent) for job in jobs]

    def latest(self) -> JobStatus | None:
        """Return the state of the run that was started last, or None if there is none."""
        return next((self.status(name) for name in self.names()), None)

    def status(self, name: str) -> JobStatus | None:
        """Return the state of a run, or None if it does not exist any more."""
        folder = self.workspace.root / name
        if name not in self.names():
            return None
        job = _job_of(folder)
        state = job.state()
        progress = read_progress(job.folder)
        if state in ACTIVE:
            return JobStatus(name, state, _describe_progress(name, job.asked_to_stop, progress), progress)
        result = job.result()
        return JobStatus(
            name=name,
            state=state,
            message=self._outcome(folder, progress, state, result.get("reason")),
            progress=progress,
            metrics=result.get("metrics") or {},
            can_resume=_can_resume(job, folder),
            mistakes=(read_json(folder / MISTAKES_NAME) or {}).get("tasks", []) if state == FINISHED else [],
        )

    def rename(self, name: str | None, new_name: str) -> str:
        """Give a run another name.

        Args:
            name: Name of the run.
            new_name: The name that the user has typed.

        Returns:
            The new name of the run.

        Raises:
            ValueError: If there is no such run, it is training, or the new name is empty or taken.
        """
        with self.launcher.turn_of(name):
            return self.workspace.name_of(rename_run(self._folder(name), new_name))

    def delete(self, name: str | None) -> None:
        """Delete a run with its model and checkpoints.

        Raises:
            ValueError: If there is no such run, or it is training.
            OSError: If a file cannot be deleted.
        """
        with self.launcher.turn_of(name):
            delete_run(self._folder(name))

    def _folder(self, name: str | None) -> Path:
        return look_up("run", name, {known: self.workspace.root / known for known in self.names()})

    def _outcome(self, folder: Path, progress: RunProgress, state: str, reason: str | None) -> str:
        """Return how a run ended and which checkpoint was kept."""
        name = self.workspace.name_of(folder)
        if state == FINISHED:
            return f"{name} has finished. Open the Try tab to use its model."
        how = f"{name} was stopped at step {progress.step}" if state == STOPPED else f"{name} failed: {reason}"
        words = [f"{how.rstrip('.')}."]
        if state == FAILED and is_full(self.workspace.root):
            words.append(full_disk(self.workspace.root))
        checkpoint = find_last_checkpoint(folder)
        if checkpoint is not None:
            words.append(f"Saved: {self.workspace.name_of(checkpoint)}. Resume continues from there.")
        elif has_unfinished_folds(folder):
            words.append("Resume continues with the fold that was interrupted.")
        else:
            words.append("It has no checkpoint, so it can't be resumed.")
        return " ".join(words)


def _job_of(folder: Path) -> JobProcess:
    return JobProcess(folder / JOB_DIR)


def _can_resume(job: JobProcess, folder: Path) -> bool:
    ended_early = job.state() in (STOPPED, FAILED)
    return ended_early and (find_last_checkpoint(folder) is not None or has_unfinished_folds(folder))


def _write_config(job: JobProcess, config: RunConfig, output_dir: Path) -> None:
    text = config_as_yaml(replace(config, output_dir=str(output_dir)))
    (job.folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _describe_progress(name: str, is_stopping: bool, progress: RunProgress) -> str:
    if not progress.max_steps:
        text = "is loading its data and its model"
    else:
        stage = f", stage {progress.stage!r}" if progress.stage else ""
        text = f"is training: step {progress.step:,} of {progress.max_steps:,}, epoch {progress.epoch:.1f}{stage}"
        if progress.seconds_left is not None and not is_stopping:
            text += f", {in_words(progress.seconds_left)} left"
    if is_stopping:
        text += ". Stopping after this step and saving a checkpoint. Press Stop again to quit immediately"
    return f"{name} {text}."
