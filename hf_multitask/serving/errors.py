"""Requests that get no answer, by status."""


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: What is wrong with the request.
        headers: Further headers of the response.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class ClientGoneError(Exception):
    """The client has closed its connection before it had its answer."""
