"""The body of a request, read with limits of size and time."""

import asyncio

from fastapi import Request

from .errors import ClientGoneError, RequestError

SECONDS_TO_SEND = 30
# A body that is too large is read up to so many times the limit: many clients read no answer before they have sent it.
READ_ANYWAY = 16
_CLOSE = {"Connection": "close"}


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read the body of a request.

    Args:
        request: Request.
        max_bytes: Maximum size.

    Returns:
        The body.

    Raises:
        RequestError: If the body is not JSON by its type (status 415), is too large (413), or is not complete after
            `SECONDS_TO_SEND` (408).
        ClientGoneError: If the client has gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page elsewhere can make a browser send other types without asking.
    if kind != "application/json":
        raise RequestError(415, f"expected the header `Content-Type: application/json`, found {kind!r}.", _CLOSE)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > READ_ANYWAY * max_bytes:
        raise _too_large(max_bytes)
    # Most bodies arrive at once: the timer is all that they need, and not the task that asyncio.wait_for makes.
    loop, task, is_late = asyncio.get_running_loop(), asyncio.current_task(), False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        if task is not None:
            task.cancel()

    timer = loop.call_later(SECONDS_TO_SEND, give_up)
    try:
        return await _receive(request, max_bytes)
    except asyncio.CancelledError as error:
        if not is_late:
            raise
        raise RequestError(408, f"the body was not complete after {SECONDS_TO_SEND} seconds.", _CLOSE) from error
    finally:
        timer.cancel()


async def _receive(request: Request, max_bytes: int) -> bytes:
    body, size = bytearray(), 0
    while size <= READ_ANYWAY * max_bytes:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        content = message.get("body", b"")
        size += len(content)
        if size <= max_bytes:
            body += content
        if not message.get("more_body", False):
            break
    if size > max_bytes:
        raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, f"the body may have at most {max_bytes:,} bytes.", _CLOSE)
