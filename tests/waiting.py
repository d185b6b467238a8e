"""Wait for what another thread or process does."""

import time


def wait_until(condition, seconds=120):
    """Call ``condition`` until it holds; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
