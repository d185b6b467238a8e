"""End of the event streams of pages that the server does not know: after a restart, or when they have just left."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class EventStreams:
    """ASGI middleware that ends such a stream. Gradio tells the page, and then fails with a traceback in the log.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_answered = False

        async def send_noticed(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, receive, send_noticed)
        except RuntimeError as error:
            # Starlette's error for an answer that has begun.
            cause = error.__cause__
            if not (is_answered and isinstance(cause, HTTPException) and cause.status_code == 404):
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
