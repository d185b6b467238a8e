"""The base class of all readers of files."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from ...models.messages import unknown_name_message
from .rows import BrokenRow, LocatedRow

# The ``columns`` of a config: by the library's name of a column, its name or number in the file.
Columns = Mapping[str, str | int]

Content = TypeVar("Content")
# One row, or several consecutive rows, as found in a file and not parsed yet: the line of the first, or its index if
# the file has no lines, and the content of the file.
RawRow = tuple[int, Content]


class FileReader(ABC, Generic[Content]):
    """The rows of a file in one format, read lazily.

    Rows are found first and parsed second. Finding them is cheap, so a process that needs only some of the rows can
    skip the others. A row that cannot be parsed leaves the following rows readable.

    Args:
        path: The file.
        columns: Columns to rename: by the library's name, the name in the file. Parsed rows keep the names of the file
            until `rename_columns`.
    """

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        self.path = path
        self.columns = dict(columns or {})

    @property
    def share(self) -> float | None:
        """Share of the file that has been read, from 0 to 1; None if unknown."""
        return None

    @abstractmethod
    def raw_rows(self) -> Iterator[RawRow[Content]]:
        """Yield the rows in order, unparsed.

        Raises:
            ValueError: If the file as a whole is not in its format, or lacks one of the columns.
        """

    @abstractmethod
    def parse(self, number: int, content: Content) -> Iterable[LocatedRow]:
        """Parse a raw row.

        Args:
            number: Its line or index.
            content: Its content.

        Returns:
            The rows; none for an empty line.

        Raises:
            ValueError: If the row is broken. The message names file and line.
        """

    def extent(self, content: Content) -> tuple[int, int]:
        """Return the number of rows in the content of a raw row, and their size in bytes."""
        return 1, 0

    def has_lines(self, content: Content) -> bool:
        """Return whether the number of a raw row is its line, rather than its index."""
        return True

    def parts(self, number: int, content: Content) -> Iterable[RawRow[Content]]:
        """Split a raw row of several rows into raw rows of one row, to find the broken one."""
        return ((number, content),)

    def rows(self) -> Iterator[LocatedRow]:
        """Yield the parsed rows.

        Raises:
            ValueError: At the first broken row, and if the file as a whole is broken.
        """
        for number, content in self.raw_rows():
            yield from self.parse(number, content)

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise if the file lacks one of the columns.

        Args:
            names: Names of all columns of the file.

        Raises:
            ValueError: If a column is missing. The message names the closest match.
        """
        for ours, theirs in self.columns.items():
            if theirs not in names:
                raise ValueError(f"{self.path}: columns.{ours}: {unknown_name_message('column', theirs, names)}")


class SequentialReader(FileReader[LocatedRow | BrokenRow]):
    """Rows of a format that is parsed while its rows are found.

    Args:
        path: The file.
        columns: See `FileReader`.
        read: Returns the parsed rows of the file, and the broken ones among them.
    """

    def __init__(
        self, path: Path, columns: Columns | None, read: Callable[[Path], Iterator[LocatedRow | BrokenRow]]
    ) -> None:
        super().__init__(path, columns)
        self._read = read

    def raw_rows(self) -> Iterator[RawRow[LocatedRow | BrokenRow]]:
        """See `FileReader.raw_rows`."""
        names: dict[str, None] = {}
        for index, found in enumerate(self._read(self.path)):
            if self.columns and isinstance(found, LocatedRow):
                names.update(dict.fromkeys(found.row))
            yield index if found.line is None else found.line, found
        if names:
            self.check_columns(list(names))

    def parse(self, number: int, content: LocatedRow | BrokenRow) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        if isinstance(content, BrokenRow):
            raise content.error
        return (content,)

    def has_lines(self, content: LocatedRow | BrokenRow) -> bool:
        """See `FileReader.has_lines`."""
        return content.line is not None

    def rows(self) -> Iterator[LocatedRow]:
        """See `FileReader.rows`."""
        for found in self._read(self.path):
            if isinstance(found, BrokenRow):
                raise found.error
            yield found
