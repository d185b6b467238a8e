"""Outcome of a job, written by its process for the page."""

import logging
from collections.abc import Callable
from pathlib import Path

from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from .job_process import FAILED, RESULT_FILE, STOPPED

logger = logging.getLogger(__name__)


def write_outcome(folder: Path, kind: str, work: Callable[[], JsonObject]) -> int:
    """Do the work of a job, and write how it has ended to the folder of the job.

    Args:
        folder: Folder that the app has prepared.
        kind: Kind of the job, such as ``"training"``, for the log.
        work: Does the work and returns the outcome.

    Returns:
        The exit status: 0, or 1 if the work failed.
    """
    status = 0
    try:
        outcome = work()
    except KeyboardInterrupt:
        outcome = {"state": STOPPED}
    except Exception as error:  # The page shows every error, whichever library raised it.
        logger.exception("The %s failed.", kind)
        outcome, status = {"state": FAILED, "reason": str(error) or type(error).__name__}, 1
    write_json(folder / RESULT_FILE, outcome)
    return status


def log_to_console() -> None:
    """Show the messages of the package on standard error, which the app keeps in a file."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_multitask").setLevel(logging.INFO)
