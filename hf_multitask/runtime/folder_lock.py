"""Locks of folders that one run writes at a time. The lock of a process that dies is released."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from .processes import join_processes

# The Trainer pushes nothing to the hub whose name starts with an underscore.
_LOCK_NAME = "_lock"
# The workers of a killed process keep its lock until they notice that it is gone.
_TIMEOUT_SECONDS = 10


def acquire(lock: FileLock, message: str) -> None:
    """Acquire the lock of a folder.

    Args:
        lock: The lock.
        message: What another process that has the lock is doing.

    Raises:
        FileExistsError: If another process has the lock.
    """
    try:
        lock.acquire(timeout=_TIMEOUT_SECONDS)
    except Timeout as error:
        raise FileExistsError(message) from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other runs from writing to a folder in this context; in all processes of a run.

    The folder is created if it does not exist, and removed if it is still empty at the end.

    Args:
        folder: Folder of a run.

    Raises:
        FileExistsError: If another run is writing to the folder.
    """
    state = join_processes()
    lock = FileLock(folder / _LOCK_NAME)
    refusal = None
    if state.is_main_process and not folder.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            acquire(lock, f"output_dir {str(folder)!r}: another run is writing to it; wait for it, or use another.")
        except FileExistsError as error:
            refusal = str(error)
    if state.num_processes > 1:
        refusal = broadcast_object_list([refusal])[0]
    if refusal is not None:
        raise FileExistsError(refusal)
    try:
        yield
    finally:
        if lock.is_locked:
            # Removed while it is locked: a process that waits for it takes a new file.
            with suppress(OSError):
                os.unlink(folder / _LOCK_NAME)
            lock.release()
            with suppress(OSError):
                folder.rmdir()
