"""Runner of `tasknet_program` with the Python of an environment with tasknet."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import torch

from .workload import Workload

PROGRAM = Path(__file__).with_name("tasknet_program.py")


class TasknetRunner:
    """Training of both heads with tasknet in a separate process.

    Args:
        work: Workload.
        python: Python of the environment.

    Attributes:
        versions: Versions of the libraries in the environment; empty before the first run.
    """

    def __init__(self, work: Workload, python: Path) -> None:
        self.work = work
        self.python = python
        self.versions: dict[str, str] = {}

    def time(self, epochs: float) -> float:
        """Return the seconds of training, without start and preparation.

        Raises:
            RuntimeError: If the program fails. The message contains the end of its error output.
        """
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder, "rows.jsonl")
            rows.write_text("".join(json.dumps(row) + "\n" for row in self.work.rows), encoding="utf-8")
            options = {
                "rows": rows,
                "encoder": self.work.encoder_folder,
                "epochs": epochs,
                "batch-size": self.work.batch_size,
                "max-length": self.work.tokenizer.model_max_length,
                "threads": torch.get_num_threads(),
                "device": self.work.device,
            }
            command = [str(self.python), str(PROGRAM)]
            command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
            # The caches are in the folder, so that no run reads the caches of an earlier one.
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": folder}
            environment.pop("PYTHONPATH", None)
            run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)  # noqa: S603
        if run.returncode:
            raise RuntimeError(f"tasknet: {run.stderr[-2000:]}")
        result = json.loads(run.stdout.splitlines()[-1])
        self.versions = result["versions"]
        return result["seconds"]
