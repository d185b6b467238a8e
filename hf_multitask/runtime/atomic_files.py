"""Files that are complete or absent, even if the writing process is killed or another one reads at the same time."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_UNFINISHED = ".unfinished"


@contextmanager
def whole_file(path: Path, folder: Path | None = None, fsync: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name; it gets its own name when the block ends without an error.

    Args:
        path: The file. Its folder is created if it does not exist.
        folder: Folder of the temporary file, on the same disk; the folder of ``path`` if None.
        fsync: Whether to wait until the content is on the disk, so that it survives a power failure too.

    Yields:
        The temporary path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = (folder or path.parent) / (path.name + _UNFINISHED)
    yield unfinished
    if fsync:
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(unfinished, path)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Write files to a temporary folder; they move to their own when the block ends without an error.

    Args:
        folder: The folder. It is created if it does not exist.

    Yields:
        The temporary folder to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        yield Path(unfinished)
        for path in Path(unfinished).iterdir():
            path.replace(folder / path.name)


def write_whole(path: Path, write: Callable[[BinaryIO], object], folder: Path | None = None) -> None:
    """Write a binary file completely or not at all.

    Args:
        path: The file. Its folder is created if it does not exist.
        write: Function that writes the content.
        folder: Folder of the temporary file, see `whole_file`.
    """
    with whole_file(path, folder) as unfinished, unfinished.open("wb") as file:
        write(file)


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def to_json(values: object, indent: int | None = None) -> str:
    """Return JSON text. Numbers that JSON does not have, NaN and the infinities, become ``null``.

    Args:
        values: Mappings, sequences, strings, numbers, booleans and None.
        indent: Spaces per level; one line if None.
    """
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(values: object) -> object:
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    return [_finite(value) for value in values] if isinstance(values, (list, tuple)) else values


def write_json(path: Path, values: object) -> None:
    """Write a JSON file completely or not at all, see `to_json`."""
    write_text(path, to_json(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; return None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
