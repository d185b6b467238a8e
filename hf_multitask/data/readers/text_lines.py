"""The lines of a text file, with their numbers."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers; only a line feed ends a line.

    Args:
        path: The file; packed with gzip where its name ends in ``.gz``.

    Yields:
        The number, from 1, and the line with what ends it.

    Raises:
        ValueError: If the file is not UTF-8, or a packed file not whole. The message names file and line.
    """
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, decode_line(path, number, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole gzip file. {error}") from error


def shorten(line: str, length: int = 60) -> str:
    """Quote a line for a message, without white space at its ends and cut at ``length`` characters."""
    line = line.strip()
    return repr(line if len(line) <= length else line[:length] + "…")


def open_binary(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file for its bytes; one whose name ends in ``.gz`` is unpacked."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def decode_line(path: Path, number: int, line: bytes) -> str:
    """Decode a line.

    Args:
        path: The file, for messages.
        number: Number of the line, from 1.
        line: The line with what ends it.

    Returns:
        The line.

    Raises:
        ValueError: If it is not UTF-8, or holds what no text does. The message names file and line.
    """
    if b"\0" in line:
        raise ValueError(f"{path}:{number}: expected text in UTF-8, found a NUL byte; is the file UTF-16 or binary?")
    if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        raise ValueError(
            f"{path}:{number}: found a carriage return inside of the line; expected lines that end with a line feed."
        )
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}:{number}: expected UTF-8, found the byte 0x{line[error.start]:02x} at position {error.start} of "
            "the line."
        ) from error
