"""What is said where a disk is full."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# With less than that left, a write that failed for whatever reason failed for want of room.
FULL_BELOW = 1_000_000


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Say it where something fails because the disk of a folder is full.

    Weights and arrays are written by libraries with errors of their own, so the room that is left counts too.

    Args:
        folder: The folder that is written to.

    Raises:
        OSError: If the disk is full. The message says how to go on.
    """
    try:
        yield
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        if is_full or shutil.disk_usage(existing).free < FULL_BELOW:
            raise OSError(
                f"the disk that holds {str(folder)!r} is full. The finished runs are kept: make room, and the same "
                "command goes on from here."
            ) from error
        raise
