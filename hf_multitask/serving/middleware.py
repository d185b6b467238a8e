"""What happens around every request: token, count, log, and errors that nobody expected."""

import hmac
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any

from starlette.responses import JSONResponse

from .metrics import ServerMetrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ENDPOINTS = ("/predict", "/embed", "/model", "/health", "/ready", "/metrics", "/docs", "/openapi.json")
# What a probe asks, and the description of the API, which is the same for every model.
OPEN_ENDPOINTS = ("/health", "/ready", "/docs", "/openapi.json")
CLIENT_GONE = 499


class TokenCheck:
    """Refuses requests without the token.

    Args:
        app: Application.
        token: Token.
    """

    def __init__(self, app: App, token: str) -> None:
        self.app = app
        self.expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] not in OPEN_ENDPOINTS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                message = "expected the header `Authorization: Bearer TOKEN` with the token of this server."
                response = JSONResponse({"detail": message}, 401, {"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class RequestMonitor:
    """Counts and logs requests, without what they contain, and answers those that fail unexpectedly.

    Args:
        app: Application.
        metrics: Metrics.
        logs_requests: Whether to log a line for each request.
    """

    def __init__(self, app: App, metrics: ServerMetrics, logs_requests: bool) -> None:
        self.app = app
        self.metrics = metrics
        self.logs_requests = logs_requests
        self._requests = cache(metrics.requests.labels)
        self._seconds = cache(metrics.seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), CLIENT_GONE

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        except Exception as error:
            self.metrics.errors.inc()
            log_error(error)
            if status == CLIENT_GONE:  # nothing was sent
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, note_status)
        finally:
            seconds = time.perf_counter() - start
            # A path may be anything, and a label of its own for each would never end.
            endpoint = scope["path"] if scope["path"] in ENDPOINTS else "other"
            self._requests(endpoint, status).inc()
            self._seconds(endpoint).observe(seconds)
            if self.logs_requests:
                logger.info("%s %s %d %.1f ms", scope["method"], endpoint, status, 1000 * seconds)


def log_error(error: Exception) -> None:
    """Log where an error occurred. Its message may contain a text, and is left out."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a request failed with %s:\n%s", type(error).__name__, lines.rstrip())
