"""Lines of text files, with their numbers."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from functools import cached_property
from io import BufferedReader
from pathlib import Path

from .reading_options import log_guess

UTF_8 = "utf-8"
# The marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a file that is not UTF-8 most likely is.
WINDOWS = "cp1252"


class TextLines:
    """Lines of a text file as bytes, with their numbers from 1. Only a line feed ends a line.

    Args:
        path: The file. It is decompressed if its name ends in ``.gz``.
        encoding: Encoding of the file. By default a byte order mark of UTF-16 or UTF-32 decides; otherwise UTF-8.

    Raises:
        ValueError: While iterating, if a compressed file is incomplete or damaged, or not in an encoding in which a
            line feed takes several bytes.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path = path
        self._given = encoding
        self._file: BufferedReader | None = None

    @property
    def share(self) -> float:
        """Share of the file that has been read, from 0 to 1."""
        if self._file is None or self._file.closed:
            return 1.0
        return self._file.tell() / max(self.path.stat().st_size, 1)

    @cached_property
    def encoding(self) -> str:
        """Encoding of the file."""
        if self._given is not None:
            # UTF-8 may begin with its mark or not.
            return codecs.lookup(self._given).name.removesuffix("-sig")
        with self.path.open("rb") as file:
            start = self._open_text(file).peek(4)[:4]
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), UTF_8)
        if encoding != UTF_8:
            log_guess(
                f"{self.path}: read as {encoding}, whose byte order mark it begins with (`encoding: {encoding}`)."
            )
        return encoding

    @cached_property
    def _is_recoded(self) -> bool:
        """Whether lines are recoded to UTF-8, since a line feed is not a single byte of its own."""
        return "\n".encode(self.encoding) != b"\n"

    @cached_property
    def _line_encoding(self) -> str:
        return UTF_8 if self._is_recoded else self.encoding

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        try:
            is_recoded = self._is_recoded
            with self.path.open("rb") as self._file:
                lines = self._open_text(self._file)
                yield from self._recoded(lines) if is_recoded else enumerate(lines, start=1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.path}: expected a whole gzip file. {error}") from error

    def decode(self, number: int, line: bytes) -> str:
        """Decode a line; see `decode_line`."""
        return decode_line(self.path, number, line, self._line_encoding)

    def _open_text(self, file: BufferedReader) -> BufferedReader:
        # A buffered reader finds the lines of a gzip file much faster than the gzip file itself.
        return BufferedReader(gzip.GzipFile(fileobj=file)) if self.path.suffix == ".gz" else file

    def _recoded(self, lines: BufferedReader) -> Iterator[tuple[int, bytes]]:
        number = 0
        text = io.TextIOWrapper(lines, encoding=self.encoding, newline="\n")
        try:
            for number, line in enumerate(text, start=1):
                yield number, line.encode(UTF_8, "surrogatepass")
        except UnicodeError as error:
            raise ValueError(f"{self.path}:{number + 1}: expected {self.encoding} ({error}).") from error


def read_lines(path: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers from 1; see `TextLines`.

    Raises:
        ValueError: If the file is not text in its encoding, or a compressed file is incomplete. The message names file
            and line.
    """
    lines = TextLines(path, encoding)
    for number, line in lines:
        yield number, lines.decode(number, line)


def decode_line(path: Path, number: int, line: bytes, encoding: str = UTF_8) -> str:
    """Decode a line.

    Args:
        path: The file, for messages.
        number: Number of the line, from 1.
        line: The line with its line ending.
        encoding: Encoding of the line.

    Returns:
        The line as text.

    Raises:
        ValueError: If the line is not in its encoding, or contains a NUL byte or a carriage return before its end. The
            message names file and line.
    """
    try:
        text = line.decode("utf-8-sig" if number == 1 and encoding == UTF_8 else encoding)
    except UnicodeError as error:
        raise ValueError(f"{path}:{number}: {_why_not_text(line, error, encoding)}") from error
    # Checked in the text, where Python searches several times as fast as in bytes.
    if "\0" in text or ("\r" in text and text[text.index("\r") :] not in ("\r\n", "\r")):
        raise ValueError(f"{path}:{number}: {_why_not_text(line)}")
    return text


def _why_not_text(line: bytes, error: UnicodeError | None = None, encoding: str = UTF_8) -> str:
    if b"\0" in line:
        return (
            "expected text in UTF-8, found a NUL byte; is the file UTF-16 or binary? `encoding: utf-16` reads UTF-16."
        )
    if not isinstance(error, UnicodeDecodeError) or b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        return "found a carriage return inside the line; expected lines that end with a line feed."
    name = "UTF-8" if encoding == UTF_8 else encoding
    found = f"expected {name}, found the byte 0x{line[error.start]:02x} at position {error.start} of the line"
    if encoding != UTF_8:
        return f"{found}."
    try:
        return f"{found}. `encoding: {WINDOWS}` (Windows) would read {shorten(line.decode(WINDOWS))}."
    except UnicodeDecodeError:
        return f"{found}. Give its `encoding` if it is another one."


def shorten(line: str, max_length: int = 60) -> str:
    """Quote a line for a message, stripped and cut off after ``max_length`` characters."""
    line = line.strip()
    return repr(line if len(line) <= max_length else line[:max_length] + "…")
