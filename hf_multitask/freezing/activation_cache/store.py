"""Token states of the rows of a dataset on disk: ragged, memory-mapped, written in parts by several processes."""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SUFFIX = ".states"


@dataclass(frozen=True)
class StatesLayout:
    """What the states of a dataset's rows are like; rows are computed and written longest first.

    Args:
        lengths: Tokens of each row (num_rows).
        hidden_size: Width of the states.
        dtype: Their type.
    """

    lengths: np.ndarray
    hidden_size: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes of the states of a token."""
        return self.hidden_size * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of the states of all rows."""
        return int(self.lengths.sum()) * self.token_bytes

    @cached_property
    def order(self) -> np.ndarray:
        """The numbers of the rows, longest first."""
        return np.argsort(-self.lengths, kind="stable")


@dataclass(frozen=True)
class Part:
    """The rows that one process writes, into one file.

    Args:
        layout: The layout of all rows.
        index: Which part.
        count: Number of parts.
    """

    layout: StatesLayout
    index: int
    count: int

    @property
    def rows(self) -> np.ndarray:
        """The numbers of its rows, in the order in which they are written."""
        return self.layout.order[self.index :: self.count]

    @property
    def row_bytes(self) -> np.ndarray:
        """Bytes of each of its rows."""
        return self.layout.lengths[self.rows] * self.layout.token_bytes

    def path(self, folder: Path) -> Path:
        """Return its file in the folder of a store."""
        return folder / f"{self.index:05}-of-{self.count:05}{_SUFFIX}"


class PartWriter:
    """Writes one part, batch by batch, and goes on where an earlier process was killed.

    Until all rows are there the file has another name, so that none ever looks whole that is not.

    Args:
        folder: Folder of the store.
        part: The part.
    """

    def __init__(self, folder: Path, part: Part) -> None:
        self.path = part.path(folder)
        self.unfinished = self.path.with_suffix(".unfinished")
        self.ends = np.cumsum(part.row_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = self.unfinished.open("ab")

    @property
    def num_rows(self) -> int:
        """How many rows are written whole."""
        return int(np.searchsorted(self.ends, self.file.tell(), side="right"))

    def truncate_to(self, num_rows: int) -> None:
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


class ActivationStore:
    """The states of all rows of a dataset, read from the files of a folder.

    Args:
        folder: The folder; all parts are there.
        parts: The parts.
    """

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.layout = parts[0].layout
        self.parts = [_MappedPart(part.path(folder), part.layout) for part in parts]
        self.part_of = np.empty(len(self.layout.lengths), dtype=np.int32)
        self.start_of = np.empty(len(self.layout.lengths), dtype=np.int64)
        for part in parts:
            lengths = self.layout.lengths[part.rows]
            self.part_of[part.rows] = part.index
            self.start_of[part.rows] = np.cumsum(lengths, dtype=np.int64) - lengths

    @classmethod
    def find(cls, folder: Path, layout: StatesLayout) -> "ActivationStore | None":
        """Open a store that is there as a whole, however many processes have written it.

        Args:
            folder: Folder of the store.
            layout: The layout that it must have.

        Returns:
            The store; None where there is none, or a file has not the size that it must have.
        """
        parts = find_parts(folder, layout)
        return None if parts is None else cls(folder, parts)

    def read(self, rows: Sequence[int], attention_mask: torch.Tensor) -> torch.Tensor:
        """Read the states of rows to where their tokens are in a batch.

        Args:
            rows: Numbers of the rows.
            attention_mask: 1 for their tokens, 0 for padding (batch, seq_len).

        Returns:
            States (batch, seq_len, hidden) on the mask's device; padding has those of some token, which nothing
            attends to.
        """
        numbers = np.asarray(rows)
        lengths = self.layout.lengths[numbers]
        ends = np.cumsum(lengths)
        tokens = np.arange(ends[-1]) + np.repeat(self.start_of[numbers] - (ends - lengths), lengths)
        parts = np.repeat(self.part_of[numbers], lengths)
        # Counting tokens waits for no device, as picking them by a mask would.
        places = attention_mask.flatten().cumsum(0).sub(1).clamp(min=0).view_as(attention_mask)
        if attention_mask.device.type == "cpu":
            return self._take(tokens[places.numpy()], parts[places.numpy()])
        states = self._take(tokens, parts)
        if attention_mask.device.type == "cuda":
            states = states.pin_memory()
        return states.to(attention_mask.device, non_blocking=True)[places]

    def _take(self, tokens: np.ndarray, parts: np.ndarray) -> torch.Tensor:
        """Return the states of some tokens of some parts, by their numbers there."""
        if len(self.parts) == 1:
            return self.parts[0].read(tokens)
        states = torch.empty(*tokens.shape, self.layout.hidden_size, dtype=self.layout.dtype)
        for part in np.unique(parts):
            states[parts == part] = self.parts[part].read(tokens[parts == part])
        return states


def find_parts(folder: Path, layout: StatesLayout) -> list[Part] | None:
    """Return the parts of a store that is there as a whole, None where there is none; nothing of it is read.

    Args:
        folder: Folder of the store.
        layout: The layout that it must have.
    """
    for first in sorted(folder.glob(f"00000-of-*{_SUFFIX}")):
        count = int(first.stem.rpartition("-")[2])
        parts = [Part(layout, index, count) for index in range(count)]
        if all(_is_whole(part.path(folder), part) for part in parts):
            return parts
    return None


def _is_whole(path: Path, part: Part) -> bool:
    return path.is_file() and path.stat().st_size == part.row_bytes.sum()


class _MappedPart:
    """A file of states as a tensor."""

    def __init__(self, path: Path, layout: StatesLayout) -> None:
        self.map: mmap.mmap | None = None
        self.states = torch.empty(0, layout.hidden_size, dtype=layout.dtype)
        if path.stat().st_size:  # of more processes than rows, some have none
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self.states = torch.frombuffer(self.map, dtype=layout.dtype).view(-1, layout.hidden_size)

    def read(self, tokens: np.ndarray) -> torch.Tensor:
        """Return the states of some tokens (*tokens.shape, hidden)."""
        states = self.states[torch.from_numpy(tokens)]
        if self.map is not None:
            # Pages that stay mapped count as memory of the process, and Linux maps some forty times what is read: all
            # that lies around a page together in its cache.
            self.map.madvise(mmap.MADV_DONTNEED)
        return states
