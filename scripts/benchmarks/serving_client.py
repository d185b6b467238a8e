"""Clients of a server in a process of their own: each sends the next text when it has its answer.

``python serving_client.py HOST PORT CLIENTS`` reads commands from standard input, one JSON object per line: the bodies
to send, and whether answers are kept. It writes one line for each: latencies, statuses and answers.
"""

import asyncio
import json
import sys
import time
from typing import Any

REQUEST = "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"


class Connection:
    """One connection that is kept open.

    Args:
        host: Host of the server.
        port: Port of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, path: str = "/predict") -> tuple[int, bytes]:
        """Send a body, and return the status and the body of the answer.

        Raises:
            OSError: If the connection breaks before the whole answer is there.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        try:
            writer.write(REQUEST.format(path=path, host=self.host, size=len(body)).encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            answer = await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise OSError("the connection broke") from error
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), answer

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def send_all(connections: list[Connection], bodies: list[bytes], keep: bool, seconds: float) -> dict[str, Any]:
    """Send bodies, each by the next client that is free.

    Args:
        connections: Connections of the clients.
        bodies: Bodies.
        keep: Whether to return the answers.
        seconds: Seconds after which the bodies are sent from the start again, or 0 to send each once.

    Returns:
        ``latencies`` in seconds, ``statuses`` with their numbers, ``broken`` (the number of requests whose connection
        broke), and ``answers`` by number of the body.
    """
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    answers: dict[int, str] = {}
    broken, number, end = 0, 0, time.perf_counter() + seconds

    async def run(connection: Connection) -> None:
        nonlocal broken, number
        while number < len(bodies) or time.perf_counter() < end:
            i, number = number, number + 1
            start = time.perf_counter()
            try:
                status, answer = await connection.post(bodies[i % len(bodies)])
            except OSError:
                broken += 1
                await asyncio.sleep(0.01)
                continue
            latencies.append(time.perf_counter() - start)
            statuses[status] = statuses.get(status, 0) + 1
            if keep:
                answers[i] = answer.decode()

    await asyncio.gather(*map(run, connections))
    return {"latencies": latencies, "statuses": statuses, "broken": broken, "answers": answers}


def main() -> None:
    """Carry out commands until standard input ends."""
    host, port, clients = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    loop = asyncio.new_event_loop()
    connections = [Connection(host, port) for _ in range(clients)]
    for line in sys.stdin:
        command = json.loads(line)
        bodies = [body.encode("utf-8", "surrogateescape") for body in command["bodies"]]
        result = loop.run_until_complete(send_all(connections, bodies, command["keep"], command["seconds"]))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
