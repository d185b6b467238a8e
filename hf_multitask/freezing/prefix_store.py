"""Token states of the rows of a data set on disk: ragged, memory-mapped, written in parts by several processes."""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SUFFIX = ".states"
# A mapped file's pages count as memory of the process until they are given back.
_MAPPED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class RowLayout:
    """Where the states of each row are: rows in the order in which they are computed, longest first.

    Args:
        lengths: Tokens of each row (num_rows).
        num_parts: Files that the rows are spread over, one a process.
        hidden_size: Width of the states.
        dtype: Their type.
    """

    lengths: np.ndarray
    num_parts: int
    hidden_size: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes of the states of a token."""
        return self.hidden_size * self.dtype.itemsize

    def rows(self, part: int) -> np.ndarray:
        """Return the numbers of the rows that a part holds, in its order."""
        return np.argsort(-self.lengths, kind="stable")[part :: self.num_parts]

    def path(self, folder: Path, part: int) -> Path:
        """Return the file of a part."""
        return folder / f"{part:05}-of-{self.num_parts:05}{_SUFFIX}"

    def num_bytes(self, part: int) -> int:
        """Return the size of a part."""
        return int(self.lengths[self.rows(part)].sum()) * self.token_bytes


class PartWriter:
    """Writes one part, batch by batch, and goes on where an earlier process was killed.

    Until all rows are there the file has another name, so that none ever looks whole that is not.

    Args:
        folder: Folder of the store.
        layout: The layout.
        part: The part.
    """

    def __init__(self, folder: Path, layout: RowLayout, part: int) -> None:
        self.path = layout.path(folder, part)
        self.unfinished = self.path.with_suffix(".unfinished")
        self.ends = np.cumsum(layout.lengths[layout.rows(part)]) * layout.token_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self.file = self.unfinished.open("ab")

    @property
    def num_rows(self) -> int:
        """How many rows are written whole."""
        return int(np.searchsorted(self.ends, self.file.tell(), side="right"))

    def go_on_behind(self, num_rows: int) -> None:
        """Cut off what is behind a number of rows."""
        self.file.truncate(int(self.ends[num_rows - 1]) if num_rows else 0)
        self.file.seek(0, os.SEEK_END)

    def write(self, states: torch.Tensor) -> None:
        """Append the states of rows (num_tokens, hidden), in the type of the store."""
        self.file.write(states.contiguous().cpu().view(torch.uint8).numpy().data)

    def finish(self) -> None:
        """Give the file its name, once it is on the disk as a whole."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.unfinished, self.path)

    def discard(self) -> None:
        """Remove what is written."""
        with suppress(OSError):  # what is still to be written finds the disk as full as before
            self.file.close()
        self.unfinished.unlink(missing_ok=True)


class PrefixStore:
    """The states of all rows of a data set, read from the files of a folder.

    Args:
        folder: The folder; all parts are there.
        layout: The layout with which they were written.
    """

    def __init__(self, folder: Path, layout: RowLayout) -> None:
        self.layout = layout
        self.parts = [_MappedPart(layout.path(folder, part), layout) for part in range(layout.num_parts)]
        self.part_of = np.empty(len(layout.lengths), dtype=np.int64)
        self.start_of = np.empty(len(layout.lengths), dtype=np.int64)
        for part in range(layout.num_parts):
            rows = layout.rows(part)
            self.part_of[rows] = part
            self.start_of[rows] = np.cumsum(layout.lengths[rows]) - layout.lengths[rows]

    @classmethod
    def find(cls, folder: Path, lengths: np.ndarray, hidden_size: int, dtype: torch.dtype) -> "PrefixStore | None":
        """Open a store that is there as a whole, however many processes have written it.

        Args:
            folder: Folder of the store.
            lengths: Tokens of each row (num_rows).
            hidden_size: Width of the states.
            dtype: Their type.

        Returns:
            The store; None where there is none, or a file has not the size that it must have.
        """
        for first in sorted(folder.glob(f"00000-of-*{_SUFFIX}")):
            layout = RowLayout(lengths, int(first.stem.rpartition("-")[2]), hidden_size, dtype)
            paths = [layout.path(folder, part) for part in range(layout.num_parts)]
            if all(
                path.is_file() and path.stat().st_size == layout.num_bytes(part) for part, path in enumerate(paths)
            ):
                return cls(folder, layout)
        return None

    def read(self, rows: Sequence[int]) -> torch.Tensor:
        """Return the states of rows, one behind the other (num_tokens, hidden)."""
        return torch.cat(
            [
                self.parts[self.part_of[row]].read(self.start_of[row], self.start_of[row] + self.layout.lengths[row])
                for row in rows
            ]
        )


class _MappedPart:
    """A file of states as a tensor."""

    def __init__(self, path: Path, layout: RowLayout) -> None:
        self.token_bytes = layout.token_bytes
        self.mapped_bytes = 0
        self.map: mmap.mmap | None = None
        self.states = torch.empty(0, layout.hidden_size, dtype=layout.dtype)
        if path.stat().st_size:  # of more processes than rows, some have none
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self.states = torch.frombuffer(self.map, dtype=layout.dtype).view(-1, layout.hidden_size)

    def read(self, start: int, end: int) -> torch.Tensor:
        """Return the states of some tokens; they are valid until the next call."""
        self.mapped_bytes += int(end - start) * self.token_bytes
        if self.map is not None and self.mapped_bytes > _MAPPED_BYTES:
            self.map.madvise(mmap.MADV_DONTNEED)
            self.mapped_bytes = 0
        return self.states[start:end]
