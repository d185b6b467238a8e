"""Processes that serve: lost ones are replaced, and none outlives the process that started it."""

import logging
import os
import signal
import threading
import time
from multiprocessing import connection, parent_process
from socket import socket

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

logger = logging.getLogger(__name__)

# Seconds that a worker has until its first answer: it imports torch, on a machine that may be busy.
SECONDS_TO_START = 300
# Seconds that a worker has to end after it has closed its pipe; only then it has a status.
SECONDS_TO_END = 5
# Seconds after which a worker that could not start is started again, if others have served.
SECONDS_TO_RETRY = 10


class Worker(Process):
    """A process that serves, and ends as programs do when it is told to stop: what it has opened is given back.

    Uvicorn ends a process by the signal that it has got, without its exit handlers. Semaphores of libraries, such as
    that of a progress bar, are then reported as leaked.
    """

    _has_answered = False
    _asked_at: float | None = None

    def is_alive(self, timeout: float = 5) -> bool:
        """Return whether the process answers in time. The time until its first answer is `SECONDS_TO_START`.

        Args:
            timeout: Seconds.
        """
        if self._has_answered or not self.process.is_alive():
            return super().is_alive(timeout)
        try:
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self.parent_conn.send(b"ping")
            if self.parent_conn.poll(0):  # meanwhile the other workers are watched
                self.parent_conn.recv()
                self._has_answered = True
        except (OSError, EOFError):
            return False
        return self._has_answered or time.monotonic() < self._asked_at + SECONDS_TO_START

    def is_ready(self, timeout: float = 5) -> bool:
        """Return whether the process answers in time that it serves.

        Args:
            timeout: Seconds.
        """
        return self._has_answered and super().is_ready(timeout)

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve until a signal to stop."""

        # Uvicorn restores these handlers when it has stopped, and sends itself the signal again.
        def stop(*_: object) -> None:
            self.server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        super().target(sockets)


class Supervisor(Multiprocess):
    """Starts workers again as soon as they have died. If they cannot start, those that can go on."""

    cannot_start = False
    _has_served = False
    _retry_at: float | None = None

    def init_processes(self) -> None:
        """Start the workers."""
        self.processes += [Worker(self.config, self.sockets) for _ in range(self.processes_num)]
        for process in self.processes:
            process.start()

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have died or do not answer; end if the first ones cannot start."""
        for i, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            # A worker that dies while it is asked closes its end of the pipe, but nobody would know while this process
            # has that end too: it would wait for an answer until the time is over.
            process.child_conn.close()
            if process.is_alive(self.config.timeout_worker_healthcheck):
                self._has_served = self._has_served or process.is_ready(self.config.timeout_worker_healthcheck)
                continue
            process.process.join(SECONDS_TO_END)
            if process.exitcode != STARTUP_FAILURE or self._may_retry():
                process.kill()
                process.join()
                if process.exitcode != STARTUP_FAILURE:
                    logger.error("a worker ended with status %s; another takes its place.", process.exitcode)
                self.processes[i] = Worker(self.config, self.sockets)
                self.processes[i].start()
            elif not self._has_served:
                self.cannot_start = True
                self.should_exit.set()

    def _may_retry(self) -> bool:
        """Return whether it is time to start a worker again that could not start."""
        if not self._has_served:
            return False
        if self._retry_at is None:
            logger.error("a worker could not start; its error is above. It is tried again in %d s.", SECONDS_TO_RETRY)
            self._retry_at = time.monotonic() + SECONDS_TO_RETRY
        if time.monotonic() < self._retry_at:
            return False
        self._retry_at = None
        return True


def end_with_parent() -> None:
    """Let this process end as by SIGTERM when the process that started it has ended, however that was."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
