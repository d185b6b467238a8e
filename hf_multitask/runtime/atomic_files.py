"""Files that are whole or not there, whatever ends the process that writes them and whoever reads meanwhile."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_UNFINISHED = ".unfinished"


def write_whole(path: Path, write: Callable[[BinaryIO], Any], folder: Path | None = None) -> None:
    """Write a file that has its name only when it is whole.

    Args:
        path: The file; its folder is made where there is none.
        write: What writes it.
        folder: Where it lies until then, on the same disk; beside it where None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = (folder or path.parent) / (path.name + _UNFINISHED)
    with unfinished.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file; see `write_whole`."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, values: Any) -> None:
    """Write what JSON can hold; see `write_whole`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a file of JSON; None where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
