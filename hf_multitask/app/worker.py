"""Process of one training run, started by the app: ``python -m hf_multitask.app.worker FOLDER [--resume]``."""

import sys
from pathlib import Path

from ..models.type_aliases import JsonObject
from ..runs.config import RunConfig
from ..runs.training import run_training
from .job_outcome import log_to_console, write_outcome
from .job_process import CONFIG_FILE, FINISHED, STOPPED
from .jobs import RESUME
from .run_progress import ProgressWriter


def main(folder: Path, resume: bool = False) -> int:
    """Train from the config in a folder, and write the progress and the result to that folder.

    Args:
        folder: Folder that the app has prepared.
        resume: Whether to resume from the last checkpoint of the run.

    Returns:
        The exit status: 0, or 1 if the training failed.
    """
    writer = ProgressWriter(folder)

    def train() -> JsonObject:
        metrics = run_training(RunConfig.from_file(folder / CONFIG_FILE), resume=resume, callbacks=[writer])
        return {"state": STOPPED if writer.stopped else FINISHED, "metrics": metrics}

    return write_outcome(folder, "training", train)


if __name__ == "__main__":
    log_to_console()
    sys.exit(main(Path(sys.argv[1]), RESUME in sys.argv[2:]))
