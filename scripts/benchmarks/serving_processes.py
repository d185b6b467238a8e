"""The processes of a benchmark of the server: the server, and its clients."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HOST = "127.0.0.1"
SECONDS_TO_START = 400
_ADDRESS = re.compile(r"ready: http://127\.0\.0\.1:(\d+)")
_CLIENT = Path(__file__).with_name("serving_client.py")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Args:
        process: Its first process.
        port: Its port.
        log: File of what it prints.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> bytes:
        """Return the answer of an endpoint."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}") as response:
            content: bytes = response.read()
        return content

    @property
    def workers(self) -> list[psutil.Process]:
        """Processes that have a model."""
        children = psutil.Process(self.process.pid).children()
        # multiprocessing starts a process that watches over semaphores, too.
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        found = [child for child in alive if "spawn_main" in " ".join(child.cmdline())]
        return found or [psutil.Process(self.process.pid)]

    def memory(self) -> float:
        """Return the resident memory of all workers in MiB."""
        return sum(worker.memory_info().rss for worker in self.workers) / 2**20


@contextmanager
def running_server(model: str | Path, log: Path, *options: str) -> Iterator[RunningServer]:
    """Start a server on a free port, and end it.

    Args:
        model: Folder of the model.
        log: File for what it prints.
        options: Further options of the command.

    Yields:
        The server, when it is ready.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [sys.executable, "-m", "hf_multitask", "serve", str(model), "--port", "0", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        end = time.monotonic() + SECONDS_TO_START
        # Clients that come before the last worker is ready would all be connected to the others.
        workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
        while len(found := _ADDRESS.findall(log.read_text(encoding="utf-8"))) < workers:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        server = RunningServer(process, int(found[0]), log)
        _wait_until_ready(server, end)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(server: RunningServer, end: float) -> None:
    while time.monotonic() < end:
        try:
            server.get("/ready")
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server did not get ready")


class Clients:
    """Clients of a server, in processes of their own.

    Args:
        server: Server.
        clients: Number of clients.
        processes: Number of processes that they are divided among.
    """

    def __init__(self, server: RunningServer, clients: int, processes: int = 1) -> None:
        command = [sys.executable, str(_CLIENT), HOST, str(server.port), str(clients // processes)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
            for _ in range(processes)
        ]

    @property
    def processes(self) -> list[psutil.Process]:
        """Processes of the clients."""
        return [psutil.Process(process.pid) for process in self._processes]

    def send(self, bodies: Sequence[str], keep: bool = False, seconds: float = 0.0) -> list[dict[str, Any]]:
        """Send bodies, divided among the processes, and return the results of each; see `serving_client.send_all`."""
        self.begin(bodies, keep, seconds)
        return self.end()

    def begin(self, bodies: Sequence[str], keep: bool = False, seconds: float = 0.0) -> None:
        """Begin to send bodies."""
        count = len(self._processes)
        for i, process in enumerate(self._processes):
            if process.stdin is None:
                raise RuntimeError("a client has no standard input")
            command = {"bodies": bodies[i::count], "keep": keep, "seconds": seconds}
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()

    def end(self) -> list[dict[str, Any]]:
        """Wait until all bodies are sent, and return the results of each process."""
        return [json.loads(process.stdout.readline()) for process in self._processes if process.stdout is not None]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(30)
