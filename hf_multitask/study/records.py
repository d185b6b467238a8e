"""What is kept of each finished run: ``record.json`` in its folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..runtime.atomic_files import write_json
from .row_scores import RowScores
from .study_plan import PlannedRun, StudyPlan
from .study_results import RunResult

RECORD_NAME = "record.json"
LOCK_NAME = "lock"


def write_record(plan: StudyPlan, run: PlannedRun, result: RunResult, rows: dict[str, RowScores]) -> None:
    """Keep what a run gave; from then on it is finished.

    Args:
        plan: The study.
        run: The run.
        result: What it gave.
        rows: Its scores on each row of test, by task.
    """
    values = {"study": plan.digest, **asdict(result), "rows": {name: asdict(scores) for name, scores in rows.items()}}
    write_json(plan.folder / run.folder / RECORD_NAME, values)


def read_record(plan: StudyPlan, run: PlannedRun) -> dict[str, Any] | None:
    """Return what a run gave, with ``rows``; None where it is not finished.

    Raises:
        ValueError: If the record is damaged, or that of another study.
    """
    path = plan.folder / run.folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop("study")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged; remove it, and the run is made again.") from error
    if digest != plan.digest:
        raise ValueError(f"{path}: is of the study of another config; remove it, and the run is made again.")
    return values


def is_finished(plan: StudyPlan, folder: Path) -> bool:
    """Tell whether the run of a folder is finished."""
    return (plan.folder / folder / RECORD_NAME).is_file()


@contextmanager
def claim(plan: StudyPlan, run: PlannedRun) -> Iterator[bool]:
    """Claim a run, so that no other process works on it meanwhile; one that is killed lets go of it.

    Args:
        plan: The study.
        run: The run.

    Yields:
        Whether this process has it.
    """
    folder = plan.folder / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
