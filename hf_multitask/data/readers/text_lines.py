"""Lines of text files, with their numbers."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path


class TextLines:
    """Lines of a text file as bytes, with their numbers from 1. Only a line feed ends a line.

    Args:
        path: The file. It is decompressed if its name ends in ``.gz``.

    Raises:
        ValueError: While iterating, if a compressed file is incomplete or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedReader | None = None

    @property
    def share(self) -> float:
        """Share of the file that has been read, from 0 to 1."""
        if self._file is None or self._file.closed:
            return 1.0
        return self._file.tell() / max(self.path.stat().st_size, 1)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        try:
            with self.path.open("rb") as self._file:
                is_gzip = self.path.suffix == ".gz"
                # A buffered reader finds the lines of a gzip file much faster than the gzip file itself.
                lines = BufferedReader(gzip.GzipFile(fileobj=self._file)) if is_gzip else self._file
                yield from enumerate(lines, start=1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.path}: expected a whole gzip file. {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers from 1; see `TextLines`.

    Raises:
        ValueError: If the file is not UTF-8 text, or a compressed file is incomplete. The message names file and line.
    """
    for number, line in TextLines(path):
        yield number, decode_line(path, number, line)


def decode_line(path: Path, number: int, line: bytes) -> str:
    """Decode a line.

    Args:
        path: The file, for messages.
        number: Number of the line, from 1.
        line: The line with its line ending.

    Returns:
        The line as text.

    Raises:
        ValueError: If the line is not UTF-8, or contains a NUL byte or a carriage return before its end. The message
            names file and line.
    """
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{number}: {_why_not_text(line, error)}") from error
    # Checked in the text, where Python searches several times as fast as in bytes.
    if "\0" in text or ("\r" in text and text[text.index("\r") :] not in ("\r\n", "\r")):
        raise ValueError(f"{path}:{number}: {_why_not_text(line)}")
    return text


def _why_not_text(line: bytes, error: UnicodeDecodeError | None = None) -> str:
    if b"\0" in line:
        return "expected text in UTF-8, found a NUL byte; is the file UTF-16 or binary?"
    if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r") or error is None:
        return "found a carriage return inside the line; expected lines that end with a line feed."
    return f"expected UTF-8, found the byte 0x{line[error.start]:02x} at position {error.start} of the line."


def shorten(line: str, max_length: int = 60) -> str:
    """Quote a line for a message, stripped and cut off after ``max_length`` characters."""
    line = line.strip()
    return repr(line if len(line) <= max_length else line[:max_length] + "…")
