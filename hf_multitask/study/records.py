"""Records of finished runs, ``record.json`` in their folders, and claims of runs that are being trained."""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout

from ..runtime.atomic_files import write_json
from ..training.checkpoint_errors import WriteError
from .limits import STOP_NAME
from .row_scores import RowScores
from .study_plan import CONFIG_NAME, PlannedRun, StudyPlan
from .study_results import RunResult

RECORD_NAME = "record.json"
LOCK_NAME = "lock"
# With less free space in bytes than this, a failed write is put down to a full disk, whatever its error.
MIN_FREE_SPACE = 1_000_000


@dataclass(frozen=True)
class RunRecord:
    """Result and test scores of a finished run.

    Args:
        result: The result.
        rows: Scores of each test row, by task.
    """

    result: RunResult
    rows: Mapping[str, RowScores]


def write_settings(plan: StudyPlan) -> None:
    """Write the settings of a study into its folder, in the main process. All processes of a launcher call this.

    A file that asks an earlier call to stop is removed: it is not meant for this one.

    Args:
        plan: The study.
    """
    state = PartialState()
    # A process that is still planning would take the folder for one with something else in it.
    state.wait_for_everyone()
    if state.is_main_process:
        (plan.folder / STOP_NAME).unlink(missing_ok=True)
        with explain_full_disk(plan.folder):
            write_json(plan.folder / CONFIG_NAME, plan.settings)


def write_record(plan: StudyPlan, run: PlannedRun, record: RunRecord) -> None:
    """Write the record of a run, which finishes it.

    Args:
        plan: The study.
        run: The run.
        record: The record.
    """
    rows = {task: asdict(scores) for task, scores in record.rows.items()}
    values = {"study": plan.digest, **asdict(record.result), "rows": rows}
    write_json(plan.folder / run.folder / RECORD_NAME, values)


def read_record(plan: StudyPlan, run: PlannedRun) -> RunRecord | None:
    """Return the record of a run, or None if the run is not finished.

    Raises:
        ValueError: If the record is damaged or belongs to another study.
    """
    path = plan.folder / run.folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop("study")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged; remove it, and the run is trained again.") from error
    if digest != plan.digest:
        raise ValueError(f"{path}: belongs to the study of another config; remove it, and the run is trained again.")
    rows = {task: RowScores(**scores) for task, scores in values.pop("rows").items()}
    return RunRecord(RunResult.from_dict(values), rows)


def is_finished(plan: StudyPlan, folder: Path) -> bool:
    """Return whether the run in a folder is finished."""
    return (plan.folder / folder / RECORD_NAME).is_file()


@contextmanager
def claim(plan: StudyPlan, run: PlannedRun) -> Iterator[bool]:
    """Claim a run, so that no other process trains it at the same time.

    The claim is a file lock, which the system releases when the process ends, even if it is killed.

    Args:
        plan: The study.
        run: The run.

    Yields:
        Whether this process has the claim.
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


def plain_error(error: ValueError | OSError) -> Exception:
    """Return an error of a run that can be sent: constructors of some subclasses take more than a message.

    Args:
        error: The error.
    """
    kinds = (ValueError, WriteError, OSError)
    return next(kind for kind in kinds if isinstance(error, kind))(str(error))


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn errors inside into a plain one if they arise because the disk of a folder is full.

    Libraries that write weights and arrays raise errors of various types, so the free space is checked too.

    Args:
        folder: Folder that is written to.

    Raises:
        WriteError: If the disk is full. The message says how to continue.
    """
    try:
        yield
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        if is_full or shutil.disk_usage(existing).free < MIN_FREE_SPACE:
            raise WriteError(
                f"the disk of {str(folder)!r} is full. The finished runs are kept: free some space, and run the same "
                "command again to continue."
            ) from error
        raise
