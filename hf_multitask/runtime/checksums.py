"""Checksums of files that are read back, so that a damaged file is noticed before anything is trained on it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from ..models.type_aliases import JsonObject
from .atomic_files import read_json, write_json

_BYTES_AT_ONCE = 2**22


def file_checksum(path: Path) -> str:
    """Return the checksum of a file's content (XXH3, 128 bits, in hexadecimal digits)."""
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        while part := file.read(_BYTES_AT_ONCE):
            checksum.update(part)
    return checksum.hexdigest()


def write_checksums(path: Path, files: Iterable[Path]) -> None:
    """Write the sizes and checksums of files to a JSON file.

    Args:
        path: The JSON file.
        files: Files in the same folder.
    """
    write_json(path, {file.name: _describe(file) for file in files})


def update_checksum(path: Path, file: Path) -> None:
    """Write the size and checksum of a file that has been changed on purpose, if there are some of it.

    Args:
        path: The JSON file, see `write_checksums`.
        file: The file, in the same folder.
    """
    found = read_checksums(path)
    if found is not None and file.name in found:
        write_json(path, {**found, file.name: _describe(file)})


def _describe(file: Path) -> JsonObject:
    return {"bytes": file.stat().st_size, "xxh3_128": file_checksum(file)}


def read_checksums(path: Path) -> dict[str, JsonObject] | None:
    """Return the sizes and checksums by file name; None if there are none or they cannot be read."""
    found = read_json(path)
    is_whole = isinstance(found, dict) and all(
        isinstance(value, dict) and isinstance(value.get("bytes"), int) and "xxh3_128" in value
        for value in found.values()
    )
    return found if is_whole else None


def find_change(folder: Path, expected: Mapping[str, JsonObject]) -> tuple[str, str] | None:
    """Find a file that is not as it was when its checksum was written.

    Args:
        folder: Folder of the files.
        expected: Sizes and checksums by file name, see `read_checksums`.

    Returns:
        The name of the first such file, and what is wrong with it; None if all are as they were.
    """
    for name, values in sorted(expected.items()):
        path = folder / name
        if not path.is_file():
            return name, "the file is missing"
        if (size := path.stat().st_size) != values["bytes"]:
            return name, f"expected {values['bytes']:,} bytes, found {size:,}"
        if file_checksum(path) != values["xxh3_128"]:
            return name, "its content has changed since it was written (the checksum differs)"
    return None
