"""The app, started as a user does."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
URL = re.compile(r"http://127\.0\.0\.1:\d+")
SECONDS_TO_START = 90


def free_port() -> int:
    """Return a port that nothing listens on, outside of those that the app tries by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started_app(folder: Path, config: Path, *options: str) -> Iterator[str]:
    """Start the app, and yield its address. At the end it must still be running, without a traceback in its log.

    Args:
        folder: Folder of models, studies, data and runs.
        config: Config whose data is offered first.
        options: Further options of the command.
    """
    log = folder.parent / "app.log"
    command = [sys.executable, "-m", "hf_multitask", "app", config.name, "--folder", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=config.parent, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(10 * SECONDS_TO_START):
            found = URL.search(log.read_text())
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found, log.read_text()
        yield found[0]
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait(30)
