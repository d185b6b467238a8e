"""Fixtures of the tests of data."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file with a text or bytes."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
