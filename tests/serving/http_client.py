"""A client that sends what it is told, whether it is valid or not."""

import http.client
import json
import socket


class Client:
    """One connection to a server on this machine."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def send(self, path, body=None, headers=None, method=None):
        """Return status, headers and body of the answer to a body of bytes."""
        headers = {"Content-Type": "application/json"} | (headers or {})
        self.connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def post(self, path, value, **headers):
        """Return the status and the answer to a value."""
        status, _, content = self.send(path, json.dumps(value).encode(), headers)
        return status, json.loads(content)

    def predict(self, inputs, **options):
        """Return the answer to a valid request for predictions."""
        status, answer = self.post("/predict", {"inputs": inputs, **options})
        assert status == 200, answer
        return answer

    def get(self, path):
        status, _, content = self.send(path)
        assert status == 200
        return content


def raw_request(port, content, read=True, closes=True):
    """Send bytes on a new connection, close this side of it, and return what comes back until the other closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        if not read:
            return b""
        if closes:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
