"""Studies of the app, each in a process of its own."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..data import DataConfig
from ..models.type_aliases import JsonObject
from ..runs.config import RunConfig
from ..runtime.atomic_files import read_json, write_json
from ..study.study_results import Winner
from .choices import config_as_yaml
from .durations import in_words
from .job_process import ACTIVE, CONFIG_FILE, FAILED, FINISHED, JobProcess, Launcher
from .workspace import RACE_NAME, STUDY_JOBS_DIR, STUDY_NAME, Workspace, look_up

STUDY_FOLDER = "study"
WORKER = "hf_multitask.app.study_worker"
SETTINGS_FILE = "settings.json"
PROGRESS_FILE = "progress.json"
FOLDS = 3


@dataclass(frozen=True)
class StudySettings:
    """Choices of a study or a race on the page.

    Args:
        scenarios: Names of the scenarios. The others of a study are compared with the first.
        seeds: Number of seeds; of a race, the most that are trained.
        minutes: Time of the whole study in minutes; no limit if None.
        race: Whether it is a race.
    """

    scenarios: Sequence[str]
    seeds: int = 1
    minutes: float | None = None
    race: bool = False


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a study or a race.

    Args:
        number: Number of finished trainings; of a race, in its rung.
        total: Number of all trainings; of a race, in its rung. 0 while the study is being planned.
        seconds_left: Estimate of the remaining time; None if there is none yet.
        runs: Name, seconds and scores of each finished training.
        rung: The rung of a race, in words; empty in a study.
        goes_on: Whether a race is not over when the trainings of its rung are finished.
        table: Title, header and rows of the table so far, which a race has after its first rung.
    """

    number: int = 0
    total: int = 0
    seconds_left: float | None = None
    runs: list[tuple[str, float, str]] = field(default_factory=list)
    rung: str = ""
    goes_on: bool = False
    table: tuple[str, list[str], list[list[str]]] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all trainings are finished."""
        return self.number == self.total > 0 and not self.goes_on


@dataclass(frozen=True)
class StudyStatus:
    """State of a study.

    Args:
        name: Name of the study's folder in the workspace.
        state: State of its process.
        message: Description of the state for the page.
        progress: Progress of the study.
    """

    name: str
    state: str
    message: str
    progress: StudyProgress

    @property
    def is_active(self) -> bool:
        """Whether the process of the study is running."""
        return self.state in ACTIVE

    @property
    def is_whole(self) -> bool:
        """Whether all trainings are finished and the results are written."""
        return self.state == FINISHED and self.progress.is_whole


class StudyJobs:
    """Studies of a workspace that the app has started. They are in ``app/study-1``, ``app/study-2``, and so on.

    Args:
        workspace: The workspace.
        launcher: Starts the processes. Runs of the same workspace use the same one.
    """

    def __init__(self, workspace: Workspace, launcher: Launcher) -> None:
        self.workspace = workspace
        self.launcher = launcher

    def start(self, config: RunConfig, settings: StudySettings) -> str:
        """Start a study.

        Args:
            config: Config of a run of the study.
            settings: The choices.

        Returns:
            The name of its folder.

        Raises:
            ValueError: If a job is running already.
            OSError: If the disk is full.
        """
        with self.launcher.turn():
            folder = self.workspace.new_folder(self.workspace.app_dir, STUDY_FOLDER)
            job = self._job(folder.name)
            shutil.rmtree(job.folder, ignore_errors=True)  # Of a study whose folder was deleted by hand.
            job.folder.mkdir(parents=True)
            text = config_as_yaml(replace(config, output_dir=str(folder)))
            (job.folder / CONFIG_FILE).write_text(text, encoding="utf-8")
            write_json(job.folder / SETTINGS_FILE, asdict(settings))
            self.launcher.launch(job, WORKER)
            return self.workspace.name_of(folder)

    def resume(self, name: str | None) -> None:
        """Continue a study that was stopped: finished trainings are kept.

        Args:
            name: Name of the study.

        Raises:
            ValueError: If there is no such study, or a job is running already.
            OSError: If the disk is full.
        """
        with self.launcher.turn():
            self.launcher.launch(self._job(self._folder(name).name), WORKER)

    def stop(self) -> None:
        """Ask the running study to end after its current training. The second call terminates it."""
        active = self.launcher.active()
        if active is not None and active.folder.parent.name == STUDY_JOBS_DIR:
            active.stop()

    def names(self) -> list[str]:
        """Return the names of the studies, the one that was started last first."""
        jobs = sorted(self.launcher.jobs("", STUDY_JOBS_DIR), key=lambda job: -job.started)
        folders = (self.workspace.app_dir / job.folder.name for job in jobs)
        return [self.workspace.name_of(folder) for folder in folders if folder.is_dir()]

    def status(self, name: str) -> StudyStatus | None:
        """Return the state of a study, or None if the app did not start it or it does not exist any more."""
        if name not in self.names():
            return None
        folder = self.workspace.root / name
        job = self._job(folder.name)
        state, progress = job.state(), read_study_progress(job.folder)
        if state in ACTIVE:
            return StudyStatus(name, state, _describe_progress(name, job.asked_to_stop, progress), progress)
        return StudyStatus(name, state, _describe_outcome(name, job, folder, progress), progress)

    def config_of_winner(self, name: str | None, winner: Winner) -> RunConfig:
        """Return the config of a run that trains as the winner of a study did.

        Raises:
            ValueError: If the app did not start the study, or the winner starts from the model of another scenario.
        """
        config = RunConfig.from_file(self._job(self._folder(name).name).folder / CONFIG_FILE)
        if winner.starts_from is not None:
            raise ValueError(f"{winner.scenario} starts from a model of {winner.starts_from}. Train that first.")
        training: JsonObject = dict(config.training)
        if winner.one_rate:
            training["head_learning_rate"] = config.training_arguments().learning_rate
        return replace(config, freeze=winner.freeze, training=training)

    def _folder(self, name: str | None) -> Path:
        return look_up("study", name, {known: self.workspace.root / known for known in self.names()})

    def _job(self, name: str) -> JobProcess:
        return JobProcess(self.workspace.app_dir / STUDY_JOBS_DIR / name)


def study_config(config: RunConfig) -> RunConfig:
    """Return the config of a run as a study can use it: without test rows, the scenarios are compared on folds.

    Args:
        config: Config of a run.
    """
    if not needs_folds(config):
        return config
    sets = [
        replace(data, validation=None, validation_split=None, folds=data.folds or FOLDS)
        for data in config.data_configs
    ]
    return replace(config, data=sets[0] if isinstance(config.data, DataConfig) else sets)


def needs_folds(config: RunConfig) -> bool:
    """Return whether a study compares on folds, because no data has test rows."""
    return all(data.test is None for data in config.data_configs)


def read_settings(folder: Path) -> StudySettings:
    """Read the choices from the folder of a study's job."""
    return StudySettings(**json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))


def read_study_progress(folder: Path) -> StudyProgress:
    """Read the progress from the folder of a study's job; empty while the study is being planned."""
    values = read_json(folder / PROGRESS_FILE)
    if values is None:
        return StudyProgress()
    return StudyProgress(**{**values, "runs": [tuple(run) for run in values["runs"]]})


def _describe_progress(name: str, is_stopping: bool, progress: StudyProgress) -> str:
    if not progress.total:
        text = "is loading its data"
    else:
        text = f"is training: {progress.number} of {progress.total} trainings{_of_rung(progress)} finished"
        if progress.seconds_left is not None and not is_stopping:
            text += f", {in_words(progress.seconds_left)} left"
    if is_stopping:
        text += ". Stopping after this training. Press Stop again to quit immediately"
    return f"{name} {text}."


def _describe_outcome(name: str, job: JobProcess, folder: Path, progress: StudyProgress) -> str:
    result = job.result()
    if result["state"] == FAILED:
        return f"{name} failed: {result['reason'].rstrip('.')}."
    if result["state"] == FINISHED and progress.is_whole:
        return f"{name} has finished."
    text = f"{name} was stopped after {progress.number} of {progress.total} trainings{_of_rung(progress)}."
    if not any((folder / file).exists() for file in (STUDY_NAME, RACE_NAME)):
        return f"{text} Press Continue to train the others and see the results."
    return f"{text} The results are those of the finished ones; Continue trains the others."


def _of_rung(progress: StudyProgress) -> str:
    return f" of {progress.rung}" if progress.rung else ""
