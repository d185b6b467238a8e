"""Stores of token states: ragged, memory-mapped files with checksums, written in parts by several processes."""

import logging
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xxhash

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SUFFIX = ".states"
_CHECKSUMS_SUFFIX = ".checksums"
_CHECKSUM = np.dtype("<u8")


class DamagedStatesError(ValueError):
    """The stored states of a row are not those that were written.

    Args:
        path: File of the states.
        found: What is wrong with it.
    """

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path}: the stored states are damaged: {found}")
        self.path = path


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
        """Size of the states of all rows and of their checksums in bytes."""
        return int(self.lengths.sum()) * self.token_bytes + len(self.lengths) * _CHECKSUM.itemsize

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

    def checksums_path(self, folder: Path) -> Path:
        """Return the file of the part's checksums, one per row."""
        return self.path(folder).with_suffix(_CHECKSUMS_SUFFIX)

    def seed(self, folder: Path) -> int:
        """Return the seed of the part's checksums, which differs between stores and parts.

        So a file that has taken the place of another one does not match, even together with its checksums.
        """
        return xxhash.xxh3_64_intdigest(f"{folder.name}/{self.path(folder).name}".encode())

    def is_whole(self, folder: Path) -> bool:
        """Return whether the files of the part exist and have their sizes. Their content is checked as it is read."""
        sizes = {
            self.path(folder): self.row_bytes.sum(),
            self.checksums_path(folder): _CHECKSUM.itemsize * len(self.rows),
        }
        return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def remove_part(path: Path) -> None:
    """Remove the file of a part and that of its checksums, as far as the system allows it."""
    for file in (path, path.with_suffix(_CHECKSUMS_SUFFIX)):
        with suppress(OSError):
            file.unlink(missing_ok=True)


class PartWriter:
    """Writes one part batch by batch, and resumes where an earlier process was killed.

    The file has another name until all rows are written, so an unfinished file never looks complete.

    Args:
        folder: Folder of the store.
        part: The part.
    """

    def __init__(self, folder: Path, part: Part) -> None:
        self.path, self.checksums_path = part.path(folder), part.checksums_path(folder)
        self.unfinished = self.path.with_suffix(".unfinished")
        self.unfinished_checksums = self.path.with_suffix(".unfinished_checksums")
        self.row_bytes = part.row_bytes.tolist()
        self.ends = np.cumsum(part.row_bytes)
        self.seed = part.seed(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = self.unfinished.open("ab")
        self.checksums = self.unfinished_checksums.open("ab")
        # Number of rows that are completely written, with their checksums.
        self.num_rows = min(
            int(np.searchsorted(self.ends, self.file.tell(), side="right")),
            self.checksums.tell() // _CHECKSUM.itemsize,
        )

    def truncate_to(self, num_rows: int) -> None:
        """Remove everything after the first ``num_rows`` rows."""
        self.file.truncate(int(self.ends[num_rows - 1]) if num_rows else 0)
        self.checksums.truncate(num_rows * _CHECKSUM.itemsize)
        for file in (self.file, self.checksums):
            file.seek(0, os.SEEK_END)
        self.num_rows = num_rows

    def write(self, states: torch.Tensor) -> None:
        """Append the states of whole rows (num_tokens, hidden), which have the type of the store."""
        data = states.contiguous().cpu().view(torch.uint8).numpy().data.cast("B")
        checksums: list[int] = []
        start = 0
        while start < len(data):
            end = start + self.row_bytes[self.num_rows + len(checksums)]
            checksums.append(xxhash.xxh3_64_intdigest(data[start:end], self.seed))
            start = end
        self.file.write(data)
        self.checksums.write(np.array(checksums, _CHECKSUM).data)
        self.num_rows += len(checksums)

    def finish(self) -> None:
        """Rename the files to their final names, once all of them is on the disk."""
        for file in (self.file, self.checksums):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        os.replace(self.unfinished_checksums, self.checksums_path)
        os.replace(self.unfinished, self.path)

    def discard(self) -> None:
        """Remove the unfinished files."""
        for file, path in ((self.file, self.unfinished), (self.checksums, self.unfinished_checksums)):
            with suppress(OSError):  # flushing the rest fails too if the disk is full
                file.close()
            path.unlink(missing_ok=True)


class ActivationStore:
    """States of all rows of a dataset, read from the files of a folder.

    Args:
        folder: Folder that contains all parts.
        parts: The parts.
    """

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.folder = folder
        self.layout = parts[0].layout
        self.parts = [_MappedPart(folder, part) for part in parts]
        self.part_of = np.empty(len(self.layout.lengths), dtype=np.int32)
        self.start_of = np.empty(len(self.layout.lengths), dtype=np.int64)
        self.checksum_of = np.empty(len(self.layout.lengths), dtype=_CHECKSUM)
        for part in parts:
            lengths = self.layout.lengths[part.rows]
            self.part_of[part.rows] = part.index
            self.start_of[part.rows] = np.cumsum(lengths, dtype=np.int64) - lengths
            self.checksum_of[part.rows] = np.fromfile(part.checksums_path(folder), _CHECKSUM)
        # Damaged files, each of which is named once.
        self._removed: set[Path] = set()

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

        Raises:
            DamagedStatesError: If the states of a row are not those that were written.
        """
        numbers = np.asarray(rows)
        self._check(numbers)
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

    def read_unless_damaged(self, rows: Sequence[int], attention_mask: torch.Tensor) -> torch.Tensor | None:
        """Read states as `read` does; None if those of a row are damaged.

        A store contains nothing that cannot be computed again, so that damage stops no training: the caller computes
        this batch from its tokens. A warning names the file, which is removed, so that it is written again when the
        store is needed next. Rows that are whole can still be read here.
        """
        try:
            return self.read(rows, attention_mask)
        except DamagedStatesError as error:
            if error.path not in self._removed:
                self._removed.add(error.path)
                remove_part(error.path)
                logger.warning(
                    "%s. Batches with such rows are computed from their tokens, and the file is removed, so that the "
                    "next training writes it again. If this happens again, check the disk.",
                    error,
                )
            return None

    def _check(self, rows: np.ndarray) -> None:
        """Compare the checksums of rows.

        Raises:
            DamagedStatesError: If one differs, or a file has become shorter.
        """
        parts, starts = self.part_of[rows], self.start_of[rows] * self.layout.token_bytes
        ends = starts + self.layout.lengths[rows] * self.layout.token_bytes
        expected = self.checksum_of[rows]
        for index in np.unique(parts).tolist():
            here = parts == index
            self.parts[index].check(starts[here].tolist(), ends[here].tolist(), expected[here].tolist())

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
        if all(part.is_whole(folder) for part in parts):
            return parts
    return None


class _MappedPart:
    """A file of states, memory-mapped as a tensor."""

    def __init__(self, folder: Path, part: Part) -> None:
        self.path = part.path(folder)
        self.seed = part.seed(folder)
        self.map: mmap.mmap | None = None
        self.view = memoryview(b"")
        self.states = torch.empty(0, part.layout.hidden_size, dtype=part.layout.dtype)
        if self.path.stat().st_size:  # some processes have no rows if there are more processes than rows
            with self.path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self.view = memoryview(self.map)
            self.states = torch.frombuffer(self.map, dtype=part.layout.dtype).view(-1, part.layout.hidden_size)

    def check(self, starts: list[int], ends: list[int], expected: list[int]) -> None:
        """Compare the checksums of rows.

        Args:
            starts: First byte of each row.
            ends: First byte behind each row.
            expected: Checksum of each row.

        Raises:
            DamagedStatesError: If one differs, or the file is no longer as long as it was: the system ends a process
                that reads behind the end.
        """
        if self.map is not None and (size := self.map.size()) != len(self.map):
            raise DamagedStatesError(self.path, f"expected {len(self.map):,} bytes, found {size:,}")
        view, seed, checksum = self.view, self.seed, xxhash.xxh3_64_intdigest
        found = [checksum(view[start:end], seed) for start, end in zip(starts, ends, strict=True)]
        if found != expected:
            first = next(i for i in range(len(found)) if found[i] != expected[i])
            raise DamagedStatesError(self.path, f"a checksum differs at byte {starts[first]:,}")

    def read(self, tokens: np.ndarray) -> torch.Tensor:
        """Return states by the token's index in the file (*tokens.shape, hidden)."""
        states = self.states[torch.from_numpy(tokens)]
        if self.map is not None:
            # Mapped pages count as memory of the process, and Linux maps about forty times what is read: all cached
            # pages around the one that is read.
            self.map.madvise(mmap.MADV_DONTNEED)
        return states
