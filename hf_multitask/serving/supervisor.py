"""Uvicorn's supervisor of several processes."""

from uvicorn.supervisors import Multiprocess


class Supervisor(Multiprocess):
    """Starts workers again as soon as they have died."""

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have died or do not answer."""
        # A worker that dies while it is asked closes its end of the pipe, but nobody would know while this process has
        # that end too: it would wait for an answer until the time is over.
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()
