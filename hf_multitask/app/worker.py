"""Process of one training run, started by the app: ``python -m hf_multitask.app.worker FOLDER [--resume]``."""

import logging
import sys
from pathlib import Path

from ..runs.config import RunConfig
from ..runs.training import run_training
from ..runtime.atomic_files import write_json
from .job_process import CONFIG_FILE, FAILED, FINISHED, RESULT_FILE, STOPPED
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
    try:
        metrics = run_training(RunConfig.from_file(folder / CONFIG_FILE), resume=resume, callbacks=[writer])
    except KeyboardInterrupt:
        write_json(folder / RESULT_FILE, {"state": STOPPED})
        return 0
    except Exception as error:  # The page shows every error, whichever library raised it.
        logging.getLogger(__name__).exception("The training failed.")
        write_json(folder / RESULT_FILE, {"state": FAILED, "reason": str(error) or type(error).__name__})
        return 1
    write_json(folder / RESULT_FILE, {"state": STOPPED if writer.stopped else FINISHED, "metrics": metrics})
    return 0


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_multitask").setLevel(logging.INFO)
    sys.exit(main(Path(sys.argv[1]), RESUME in sys.argv[2:]))
