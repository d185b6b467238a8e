"""Checks of each request to the app: the name it was sent to, the page it comes from, and its size.

The app has no passwords, so that a browser on the same machine must not carry out what a page of somebody else asks
for. Such a page may send requests to the app's address, or have a name of its own resolve to that address.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..runtime.byte_sizes import format_bytes

# Names of public addresses that Gradio creates.
SHARE_SUFFIX = ".gradio.live"
_LOCAL_NAME = "localhost"
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.IGNORECASE)
_NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_READING_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class AllowedHosts:
    """Names under which the app may be reached.

    Args:
        listening: Address or name that the app listens on. Under an address of all interfaces, such as ``0.0.0.0``,
            any address may be used, but no name: only names can be made to resolve to the app by somebody else.
        named: Further names, those of a proxy for instance; of all names below one if it begins with a dot.
    """

    listening: str
    named: frozenset[str] = frozenset()

    @classmethod
    def of(cls, listening: str, named: Iterable[str] = ()) -> "AllowedHosts":
        """Check names and take them as allowed.

        Raises:
            ValueError: If one is not a name, such as an address with a port.
        """
        names = [name.lower() for name in named]
        for name in names:
            if _address(name) is None and _NAME.fullmatch(name) is None:
                raise ValueError(
                    f"allowed-host: expected a name such as app.example.org, or .example.org for all names below it, "
                    f"without scheme, port and path; found {name!r}."
                )
        return cls(listening.lower(), frozenset(names))

    def contains(self, name: str) -> bool:
        """Return whether the app may be reached under a name or address."""
        if name in (_LOCAL_NAME, self.listening) or self.names(name):
            return True
        address, listening = _address(name), _address(self.listening)
        if address is None:
            return False
        return address.is_loopback or (listening is not None and listening.is_unspecified)

    def names(self, name: str) -> bool:
        """Return whether a name is one of the further names."""
        return name in self.named or any(name.endswith(known) for known in self.named if known.startswith("."))


class RequestChecks:
    """ASGI middleware that refuses requests which are not from the app's own pages, and those that are too large.

    Args:
        app: The application.
        hosts: Names under which it may be reached.
        max_bytes: Maximum size of a request.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, max_bytes: int) -> None:
        self.app = app
        self.hosts = hosts
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := why_refused(scope["method"], headers, self.hosts):
            await PlainTextResponse(refusal, 403)(scope, receive, send)
            return
        size = headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > self.max_bytes:
            await self._refuse_size(scope, receive, send)
            return
        body = _CountedBody(receive, send, self.max_bytes)
        try:
            await self.app(scope, body.receive, body.send)
        except _TooLargeError:
            if not body.is_answered:
                await self._refuse_size(scope, receive, send)

    async def _refuse_size(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"The request is too large: allowed are {format_bytes(self.max_bytes)}.\n"
        await PlainTextResponse(message, 413)(scope, receive, send)


def why_refused(method: str, headers: Headers, hosts: AllowedHosts) -> str | None:
    """Return why a request is refused; None if it is not.

    Args:
        method: Method of the request.
        headers: Its headers.
        hosts: Names under which the app may be reached.
    """
    found = [_HOST.fullmatch(value) for value in headers.getlist("host")]
    host = found[0] if len(found) == 1 else None
    name = "" if host is None else host["name"].lower()
    if host is None or not hosts.contains(name.strip("[]")):
        return (
            f"The app is not reached under the name {', '.join(headers.getlist('host'))!r}. If it should be, start it "
            "with --allowed-host and this name.\n"
        )
    origins = headers.getlist("origin")
    if not origins and method not in _READING_METHODS:
        return "Only the pages of the app may send data to it; this request names no page (Origin).\n"
    if not all(_is_own(origin, name, host["port"], hosts) for origin in origins):
        return (
            f"Only the pages of the app may use it; this request comes from {', '.join(origins)!r}. If this is the "
            "app's own name behind a proxy, start it with --allowed-host and this name.\n"
        )
    return None


def _is_own(origin: str, name: str, port: str | None, hosts: AllowedHosts) -> bool:
    """Return whether an origin is the one that the request was sent to, or has a name of the app."""
    scheme, _, rest = origin.partition("://")
    found = _HOST.fullmatch(rest)
    if found is None or scheme not in _DEFAULT_PORTS:
        return False
    default = _DEFAULT_PORTS[scheme]
    of_origin, of_request = int(found["port"] or default), int(port or default)
    return (found["name"].lower(), of_origin) == (name, of_request) or hosts.names(found["name"].lower())


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class _TooLargeError(Exception):
    """A request without a length has become too large."""


class _CountedBody:
    """Receives the body of a request up to a maximum size, and notices when the answer begins."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive, self._send = receive, send
        self._bytes_left = max_bytes
        self.is_answered = False

    async def receive(self) -> Message:
        """Return the next part of the body."""
        message = await self._receive()
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        self.is_answered = True
        await self._send(message)
