"""Stores of token states: ragged, memory-mapped files, written in parts by several processes."""

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
    """Layout of the states of a dataset's rows, which are computed and written longest row first.

    Args:
        lengths: Number of tokens per row (num_rows).
        hidden_size: Size of a state.
        dtype: Type of the states.
    """

    lengths: np.ndarray
    hidden_size: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Size of the state of a token in bytes."""
        return self.hidden_size * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Size of the states of all rows in bytes."""
        return int(self.lengths.sum()) * self.token_bytes

    @cached_property
    def order(self) -> np.ndarray:
        """Row numbers, longest row first."""
        return np.argsort(-self.lengths, kind="stable")


@dataclass(frozen=True)
class Part:
    """The rows that one process writes into one file.

    Args:
        layout: Layout of all rows.
        index: Index of the part.
        count: Number of parts.
    """

    layout: StatesLayout
    index: int
    count: int

    @property
    def rows(self) -> np.ndarray:
        """Row numbers of the part, in the order in which the rows are written."""
        return self.layout.order[self.index :: self.count]

    @property
    def row_bytes(self) -> np.ndarray:
        """Size of each row of the part in bytes."""
        return self.layout.lengths[self.rows] * self.layout.token_bytes

    def path(self, folder: Path) -> Path:
        """Return the file of the part in the folder of a store."""
        return folder / f"{self.index:05}-of-{self.count:05}{_SUFFIX}"


class PartWriter:
    """Writes one part batch by batch, and resumes where an earlier process was killed.

    The file has another name until all rows are written, so an unfinished file never looks complete.

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
        """Number of rows that are completely written."""
        return int(np.searchsorted(self.ends, self.file.tell(), side="right"))

    def truncate_to(self, num_rows: int) -> None:
        """Remove everything after the first ``num_rows`` rows."""
        self.file.truncate(int(self.ends[num_rows - 1]) if num_rows else 0)
        self.file.seek(0, os.SEEK_END)

    def write(self, states: torch.Tensor) -> None:
        """Append the states of rows (num_tokens, hidden), which have the type of the store."""
        self.file.write(states.contiguous().cpu().view(torch.uint8).numpy().data)

    def finish(self) -> None:
        """Rename the file to its final name, once all of it is on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.unfinished, self.path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError):  # flushing the rest fails too if the disk is full
            self.file.close()
        self.unfinished.unlink(missing_ok=True)


class ActivationStore:
    """States of all rows of a dataset, read from the files of a folder.

    Args:
        folder: Folder that contains all parts.
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
        """Open a complete store, whatever the number of processes that have written it.

        Args:
            folder: Folder of the store.
            layout: Expected layout.

        Returns:
            The store, None if no set of parts is complete and of the expected sizes.
        """
        parts = find_parts(folder, layout)
        return None if parts is None else cls(folder, parts)

    def read(self, rows: Sequence[int], attention_mask: torch.Tensor) -> torch.Tensor:
        """Read the states of rows into the positions of their tokens in a batch.

        Args:
            rows: Row numbers.
            attention_mask: 1 for tokens, 0 for padding (batch, seq_len).

        Returns:
            States (batch, seq_len, hidden) on the device of the mask. Padding gets the state of some token, to which
            nothing attends.
        """
        numbers = np.asarray(rows)
        lengths = self.layout.lengths[numbers]
        ends = np.cumsum(lengths)
        tokens = np.arange(ends[-1]) + np.repeat(self.start_of[numbers] - (ends - lengths), lengths)
        parts = np.repeat(self.part_of[numbers], lengths)
        # Counting tokens does not wait for the device, while selecting them by a mask would.
        positions = attention_mask.flatten().cumsum(0).sub(1).clamp(min=0).view_as(attention_mask)
        if attention_mask.device.type == "cpu":
            return self._take(tokens[positions.numpy()], parts[positions.numpy()])
        states = self._take(tokens, parts)
        if attention_mask.device.type == "cuda":
            states = states.pin_memory()
        return states.to(attention_mask.device, non_blocking=True)[positions]

    def _take(self, tokens: np.ndarray, parts: np.ndarray) -> torch.Tensor:
        """Return states by part and by the token's index in the part (*tokens.shape, hidden)."""
        if len(self.parts) == 1:
            return self.parts[0].read(tokens)
        states = torch.empty(*tokens.shape, self.layout.hidden_size, dtype=self.layout.dtype)
        for part in np.unique(parts):
            states[parts == part] = self.parts[part].read(tokens[parts == part])
        return states


def find_parts(folder: Path, layout: StatesLayout) -> list[Part] | None:
    """Return the parts of a complete store, None if there is none. Only the sizes of files are looked at.

    Args:
        folder: Folder of the store.
        layout: Expected layout.
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
    """A file of states, memory-mapped as a tensor."""

    def __init__(self, path: Path, layout: StatesLayout) -> None:
        self.map: mmap.mmap | None = None
        self.states = torch.empty(0, layout.hidden_size, dtype=layout.dtype)
        if path.stat().st_size:  # some processes have no rows if there are more processes than rows
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self.states = torch.frombuffer(self.map, dtype=layout.dtype).view(-1, layout.hidden_size)

    def read(self, tokens: np.ndarray) -> torch.Tensor:
        """Return states by the token's index in the file (*tokens.shape, hidden)."""
        states = self.states[torch.from_numpy(tokens)]
        if self.map is not None:
            # Mapped pages count as memory of the process, and Linux maps about forty times what is read: all cached
            # pages around the one that is read.
            self.map.madvise(mmap.MADV_DONTNEED)
        return states
