"""Programs whose result must not depend on the order of sets, which differs from process to process."""

import os
import subprocess
import sys


def outputs_by_hash_seed(program, *arguments):
    """Return the different outputs of a program in processes with different seeds of hashes."""
    return {
        subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
