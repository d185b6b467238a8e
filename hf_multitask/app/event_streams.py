"""End of the event streams of pages that the server does not know: after a restart, or when they have just left."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class EventStreams:
    """ASGI middleware that ends such a stream. Gradio tells the page, and then fails with a traceback in the log.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self.app(scope, receive, send)
        except RuntimeError as error:
            # Starlette raises this from an error that comes after the beginning of the answer.
            cause = error.__cause__
            if not (isinstance(cause, HTTPException) and cause.status_code == 404):
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
