"""Process of one study or race, started by the app: ``python -m hf_multitask.app.study_worker FOLDER``."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from ..models.type_aliases import JsonObject
from ..runs.config import RunConfig
from ..runtime.atomic_files import write_json
from ..study import Race, RaceProgress, RunResult, run_race, run_study
from ..study.race_results import rung_table
from ..study.race_rungs import RungResult
from .job_outcome import log_to_console, write_outcome
from .job_process import CONFIG_FILE, FINISHED
from .run_progress import STOP_NAME
from .study_jobs import PROGRESS_FILE, StudyProgress, StudySettings, read_settings, study_config

SHOWN_METRICS = ("_accuracy", "_f1", "_mse")
HIDDEN_METRICS = ("_macro_f1", "_strict_f1", "joint_accuracy")


class StudyWriter:
    """Writes the progress of a study.

    Args:
        folder: Folder of the job.
        minutes: Time of the study, if it is limited.
    """

    def __init__(self, folder: Path, minutes: float | None) -> None:
        self.path = folder / PROGRESS_FILE
        self.start = time.monotonic()
        self.end = None if minutes is None else self.start + 60 * minutes
        self.runs: list[tuple[str, float, str]] = []
        # Runs that an earlier process has trained take no time now.
        self.trained_at: list[float] = []

    def __call__(self, name: str, result: RunResult, number: int, total: int) -> None:
        """Add a finished run."""
        self.runs.append((name, result.seconds, _scores_in_words(result.metrics["test"])))
        now = time.monotonic()
        seconds_left = None
        if result.seconds < now - self.start:
            self.trained_at.append(now)
            seconds_left = (now - self.start) / len(self.trained_at) * (total - number)
            if self.end is not None:
                seconds_left = min(seconds_left, max(self.end - now, 0.0))
        write_json(self.path, asdict(StudyProgress(number, total, seconds_left, self.runs)))


class RaceWriter:
    """Writes the progress of a race.

    Args:
        folder: Folder of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_FILE
        self.progress = StudyProgress()

    def on_training(self, training: RaceProgress) -> None:
        """Add a finished training."""
        result = training.result
        # A rung of one more seed names the trainings of the rung below again.
        runs = {run[0]: run for run in self.progress.runs}
        runs[training.run] = (training.run, result.seconds, _scores_in_words(result.metrics["test"]))
        left = None if training.minutes_left is None else 60 * training.minutes_left
        rung = f"rung {training.rung} of at most {training.num_rungs}"
        self._write(StudyProgress(training.done, training.of, left, [*runs.values()], rung, True, self.progress.table))

    def on_rung(self, result: RungResult) -> None:
        """Add the table of a rung."""
        table = rung_table(result)
        rows = [[str(cell) for cell in row] for row in table.rows]
        self._write(replace(self.progress, table=(f"After {result.rung.text}", [*table.header], rows)))

    def on_end(self, race: Race) -> None:
        """Say whether the race is over."""
        self._write(replace(self.progress, goes_on=race.out_of_time))

    def _write(self, progress: StudyProgress) -> None:
        self.progress = progress
        write_json(self.path, asdict(progress))


def _scores_in_words(metrics: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.4f}"
        for name, value in metrics.items()
        if name.endswith(SHOWN_METRICS) and not name.endswith(HIDDEN_METRICS)
    )


def main(folder: Path) -> int:
    """Train a study or a race from the config in a folder, and write the progress and the result to that folder.

    Args:
        folder: Folder that the app has prepared.

    Returns:
        The exit status: 0, or 1 if the study failed.
    """
    settings = read_settings(folder)

    def train() -> JsonObject:
        config = RunConfig.from_file(folder / CONFIG_FILE)
        (_race if settings.race else _study)(folder, config, settings)
        # Whether all of it was trained is in the progress.
        return {"state": FINISHED}

    return write_outcome(folder, "race" if settings.race else "study", train)


def _study(folder: Path, config: RunConfig, settings: StudySettings) -> None:
    run_study(
        study_config(config),
        config.output_dir,
        list(settings.scenarios),
        settings.seeds,
        on_run=StudyWriter(folder, settings.minutes),
        time_budget=settings.minutes,
        stop_file=folder / STOP_NAME,
    )


def _race(folder: Path, config: RunConfig, settings: StudySettings) -> None:
    writer = RaceWriter(folder)
    race = run_race(
        study_config(config),
        config.output_dir,
        list(settings.scenarios),
        settings.seeds,
        time_budget=settings.minutes,
        on_training=writer.on_training,
        on_rung=writer.on_rung,
        stop_file=folder / STOP_NAME,
    )
    if race is not None:
        writer.on_end(race)


if __name__ == "__main__":
    log_to_console()
    sys.exit(main(Path(sys.argv[1])))
