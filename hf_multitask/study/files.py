"""Files that are whole or not there."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# With less than that left, a write that failed for whatever reason failed for want of room.
FULL_BELOW = 1_000_000


def write_whole(path: Path, text: str) -> None:
    """Write a text file under its name only when it is whole.

    Args:
        path: The file.
        text: Its text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file under its name only when it is whole."""
    write_whole(path, json.dumps(values, indent=1) + "\n")


@contextmanager
def explaining_a_full_disk(folder: Path) -> Iterator[None]:
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
