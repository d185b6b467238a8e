"""Settings of the server."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.field_types import check_fields
from ..models.messages import unknown_name_message
from ..models.onnx_session import BACKENDS, TORCH

LOGS = ("errors", "requests", "texts")
_AT_LEAST_ONE = ("workers", "max_batch", "max_queue", "max_texts", "max_characters", "max_body_bytes")


@dataclass(frozen=True)
class ServerSettings:
    """What the server loads, where it listens, and what it accepts.

    Args:
        model: Folder or hub name of a trained model.
        revision: Branch, tag or commit of a model on the hub.
        backend: ``"torch"`` for the model itself; ``"onnx"`` or ``"onnx-int8"`` for its exported graph, on the CPU.
        device: Device of the model, such as ``"cuda:0"``. Defaults to that of the pipeline.
        host: Address to listen on. Only this machine can reach the default.
        port: Port; 0 for any free one.
        workers: Number of processes. Each has the model, and its share of the threads.
        max_batch: Maximum number of texts per pass.
        max_wait_ms: Maximum time that a request waits for others to share its pass. A request that comes alone does
            not wait.
        max_queue: Number of texts that may wait for the model in each process; further requests get status 429.
        max_texts: Maximum number of texts in a request.
        max_characters: Maximum length of a text with its words and its second text.
        max_body_bytes: Maximum size of a request.
        token: Token that requests must carry, as ``Authorization: Bearer …``. None accepts all requests.
        allowed_origins: Origins whose pages may read answers in a browser, such as ``"https://example.org"``.
        log: What is logged: ``"errors"``; also ``"requests"``, one line each, without their texts; or also
            ``"texts"``.

    Raises:
        ValueError: If a value is invalid. The message names the field.
    """

    model: str
    revision: str | None = None
    backend: str = TORCH
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_batch: int = 32
    max_wait_ms: float = 5.0
    max_queue: int = 1024
    max_texts: int = 256
    max_characters: int = 20_000
    max_body_bytes: int = 2**20
    token: str | None = None
    allowed_origins: Sequence[str] = ()
    log: str = "requests"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if not (self.max_wait_ms >= 0 and math.isfinite(self.max_wait_ms)):
            raise ValueError(f"max_wait_ms must be a number from 0, found {self.max_wait_ms}.")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must be a number in [0, 65535], found {self.port}.")
        if self.max_queue < self.max_texts:
            raise ValueError(
                f"max_queue must be at least max_texts, {self.max_texts}, so that every request finds room; "
                f"found {self.max_queue}."
            )
        if self.token is not None and not self.token.strip():
            raise ValueError("token is empty; expected a secret, or none to accept all requests.")
        for name, value, allowed in (("backend", self.backend, BACKENDS), ("log", self.log, LOGS)):
            if value not in allowed:
                raise ValueError(unknown_name_message(name, value, allowed))
