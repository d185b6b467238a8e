"""Start of the server: one process, or several that share a socket."""

import logging
import os
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..runtime.console_log import PACKAGE, LineHandler, shown_messages
from ..runtime.extras import check_packages
from .settings import ServerSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

# Seconds that requests in flight have to end, and a worker to answer that it lives.
SECONDS_TO_FINISH, SECONDS_TO_ANSWER = 30, 15
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(settings: ServerSettings) -> None:
    """Serve a model until the process is told to stop by SIGTERM or SIGINT; requests in flight get their answers.

    Args:
        settings: Settings.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the model cannot be loaded.
        OSError: If the address cannot be used.
    """
    check_packages("serve", "the server")
    with shown_messages(), _bound_socket(settings) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        if settings.host not in LOOPBACK and settings.token is None:
            _warn(f"no token: whoever reaches {settings.host}:{settings.port} can use the model.")
        if settings.workers == 1:
            _serve_here(settings, listener)
        else:
            _serve_in_workers(settings, listener)


class WorkerSocket(socket.socket):
    """A socket that each process opens again at the same address: the system divides connections among them.

    Of a socket that processes share, the first to wake up takes all connections that wait.
    """

    @classmethod
    def like(cls, listener: socket.socket) -> "WorkerSocket":
        """Open another socket at the address of one that does not listen, and close this one."""
        family, address = listener.family, listener.getsockname()
        listener.close()
        return cls.at(family, address)

    @classmethod
    def at(cls, family: int, address: tuple[str, int]) -> "WorkerSocket":
        """Open a socket at an address."""
        opened = cls(family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        return opened

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerSocket.at, (self.family, self.getsockname())


def _serve_here(settings: ServerSettings, listener: socket.socket) -> None:
    import uvicorn

    from .endpoints import build_app
    from .model_facts import load_pipeline

    app = build_app(load_pipeline(settings), settings)
    server = uvicorn.Server(uvicorn.Config(app, **_server_options(settings)))

    # Uvicorn restores these after it has stopped and sends itself the signal again, which would end the process.
    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=[listener])


def _serve_in_workers(settings: ServerSettings, listener: socket.socket) -> None:
    import uvicorn

    from .supervisor import Supervisor

    app = partial(build_worker, settings)
    config = uvicorn.Config(app, factory=True, workers=settings.workers, **_server_options(settings))
    with tempfile.TemporaryDirectory(prefix="hf_multitask_metrics_") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder
        can_open_again = hasattr(socket, "SO_REUSEPORT")
        supervisor = Supervisor(config, sockets=[WorkerSocket.like(listener) if can_open_again else listener])
        supervisor.run()
    if supervisor.cannot_start:
        raise ValueError("a worker could not start; its error is above.")


def build_worker(settings: ServerSettings) -> "FastAPI":
    """Build the application in a worker. An error ends the worker, and at the start of the server all of it.

    Args:
        settings: Settings.

    Returns:
        The application.
    """
    from uvicorn.config import STARTUP_FAILURE

    from .endpoints import build_app
    from .model_facts import load_pipeline
    from .supervisor import end_with_parent

    end_with_parent()
    package = logging.getLogger(PACKAGE)
    package.addHandler(LineHandler())
    package.setLevel(logging.INFO)
    try:
        return build_app(load_pipeline(settings), settings)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(STARTUP_FAILURE)


def _server_options(settings: ServerSettings) -> dict[str, Any]:
    return {
        "host": settings.host,
        "port": settings.port,
        "access_log": False,  # it would contain the whole path, whatever a client puts there
        "log_level": "warning",
        "lifespan": "on",
        "ws": "none",
        "server_header": False,
        "timeout_graceful_shutdown": SECONDS_TO_FINISH,
        "timeout_worker_healthcheck": SECONDS_TO_ANSWER,
    }


def _bound_socket(settings: ServerSettings) -> socket.socket:
    """Return a socket that has its address, but does not listen yet: until the model is there, clients are refused."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OSError(f"{settings.host}:{settings.port} cannot be used: {error.strerror or error}.") from error
    listener.set_inheritable(True)
    return listener


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
