"""Mixing of several training datasets, in an order that depends only on the seed and the epoch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ...models.field_types import check_fields
from ...models.messages import unknown_name_message

STRATEGIES = ("proportional", "uniform", "temperature")
STOPPING = ("first_exhausted", "all_exhausted")
BY_LENGTH, MIXED = "by_length", "mixed"
BATCHES = (BY_LENGTH, MIXED)
# Strategies of earlier versions, and the ones that take their place.
REMOVED_STRATEGIES = {
    "round_robin": "'uniform', which takes the same number of rows from each dataset, shuffled",
    "annealed": "'temperature', whose shares are between those of 'proportional' and 'uniform' for the whole training",
}

# Positions of an endless mix that are shuffled together.
TURNS_PER_BLOCK = 1000

# Purpose of a generator. It is part of the seed, so that epoch 1 is not shuffled like dataset 1.
_CIRCLE, _EPOCH, _BLOCK, _STREAM = range(4)


@dataclass
class Sampling:
    """Share of each dataset in a mix.

    Args:
        strategy: ``proportional``: in proportion to the number of rows of a dataset. ``uniform``: the same for each
            dataset. ``temperature``: in proportion to rows ** (1 / temperature).
        temperature: Only for ``temperature``, 1 (proportional) or more; the higher, the closer to uniform.
        stopping: Length of an epoch. ``first_exhausted``: the epoch ends before any dataset would repeat a row.
            ``all_exhausted``: the epoch ends when every row of every dataset has been used; rows of smaller datasets
            are repeated.
        batches: Rows of a step. ``by_length``: of similar length, so that a step has few rows of a dataset whose rows
            have another length. ``mixed``: each dataset's share of the rows, with the shorter rows of each dataset in
            the same steps, which pads more. Streamed rows are always mixed.

    Raises:
        ValueError: If a value is not allowed.
    """

    strategy: str = "proportional"
    temperature: float = 2.0
    stopping: str = "first_exhausted"
    batches: str = BY_LENGTH

    def __post_init__(self) -> None:
        check_fields(self, "sampling: ")
        if self.strategy in REMOVED_STRATEGIES:
            raise ValueError(
                f"sampling strategy {self.strategy!r} was removed; use {REMOVED_STRATEGIES[self.strategy]}. "
                f"Allowed are {', '.join(map(repr, STRATEGIES))}."
            )
        if self.strategy not in STRATEGIES:
            raise ValueError(unknown_name_message("sampling strategy", self.strategy, STRATEGIES))
        if self.stopping not in STOPPING:
            raise ValueError(unknown_name_message("stopping", self.stopping, STOPPING))
        if self.batches not in BATCHES:
            raise ValueError(unknown_name_message("batches in sampling", self.batches, BATCHES))
        if self.temperature < 1:
            raise ValueError(f"sampling: temperature must be a finite number from 1, found {self.temperature!r}.")

    @property
    def needs_sizes(self) -> bool:
        """Whether the shares depend on the number of rows of each dataset."""
        return self.strategy != "uniform"

    def shares(self, sizes: Sequence[int]) -> list[float]:
        """Return each dataset's share of the rows.

        Args:
            sizes: Number of rows of each dataset.

        Returns:
            The shares, which sum to 1.

        Raises:
            ValueError: If there is no dataset, or a dataset has no rows.
        """
        return [float(share) for share in self.exact_shares(sizes)]

    def exact_shares(self, sizes: Sequence[int]) -> list[Fraction]:
        """Return the shares as fractions; with floats, an epoch could be one row short. See `shares`."""
        if not sizes:
            raise ValueError("sampling: no dataset to take rows from.")
        for index, size in enumerate(sizes):
            if size < 1:
                raise ValueError(f"sampling: dataset {index} has no rows (sizes: {list(sizes)}).")
        exponent = {"proportional": 1, "temperature": 1 / self.temperature, "uniform": 0}[self.strategy]
        # Rounded, because 64 ** (1 / 3) is 3.9999999999999996, and the last digit differs between machines.
        weights = [Fraction(round(size**exponent, 9)) for size in sizes]
        return [weight / sum(weights) for weight in weights]


class MixedOrder:
    """Rows of several datasets that each epoch uses, and their order.

    The rows of each dataset are shuffled once and arranged in a circle. An epoch takes the next section of the circle,
    starting where the previous epoch ended. A section no longer than the circle repeats no row, a section at least as
    long contains every row, and the rows that one epoch leaves out come next.

    Args:
        sizes: Number of rows of each dataset.
        sampling: Share of each dataset in an epoch.
        seed: Seed of the order, 0 or more.

    Raises:
        ValueError: If there is no dataset, or a dataset has no rows.
    """

    def __init__(self, sizes: Sequence[int], sampling: Sampling, seed: int) -> None:
        self.sizes = list(sizes)
        self.seed = seed
        self.mixes_batches = sampling.batches == MIXED
        shares = sampling.exact_shares(self.sizes)
        # Length of an epoch in which a dataset is used exactly once.
        whole = [size / share for size, share in zip(self.sizes, shares, strict=True)]
        self.num_rows = math.floor(min(whole)) if sampling.stopping == "first_exhausted" else math.ceil(max(whole))
        self.counts = _largest_remainder([share * self.num_rows for share in shares], self.num_rows)

    def __len__(self) -> int:
        return self.num_rows

    def arranged(self, by_length: torch.Tensor) -> torch.Tensor:
        """Arrange rows such that any section of them has rows of similar length, or each dataset's share of them.

        Args:
            by_length: Indexes of rows, sorted by length.

        Returns:
            The rows as they are, unless batches are mixed. They are then sorted by their place among the rows of
            their own dataset.
        """
        if not self.mixes_batches:
            return by_length
        sources = torch.bucketize(by_length, torch.tensor(self.sizes).cumsum(0), right=True)
        places = torch.empty(len(by_length), dtype=torch.float64)
        for source in range(len(self.sizes)):
            is_here = sources == source
            count = int(is_here.sum())
            places[is_here] = (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)
        return by_length[places.argsort(stable=True)]

    def rows(self, epoch: int) -> torch.Tensor:
        """Return the rows of an epoch.

        Args:
            epoch: The epoch, from 0.

        Returns:
            Indexes into the concatenated datasets, ``(num_rows,)``, in the shuffled order of the epoch.
        """
        selected, offset = [], 0
        for i, (size, num_rows) in enumerate(zip(self.sizes, self.counts, strict=True)):
            circle = torch.randperm(size, generator=_generator(self.seed, _CIRCLE, i))
            selected.append(offset + circle[(epoch * num_rows + torch.arange(num_rows)) % size])
            offset += size
        return torch.cat(selected)[torch.randperm(self.num_rows, generator=_generator(self.seed, _EPOCH, epoch))]


class MixedTurns:
    """Dataset of each row of an endless mix, as a function of the position only.

    Turns are shuffled in blocks of 1,000 (more if there are more than 31 datasets). At the end of each block, each
    dataset has had its share of the turns so far, rounded; the largest dataset absorbs the rounding of the others.

    Args:
        sampling: Share of each dataset in the mix; ``stopping`` is ignored.
        sizes: Number of rows of each dataset.
        seed: Seed of the order, 0 or more.

    Raises:
        ValueError: If there is no dataset, or a dataset has no rows.
    """

    def __init__(self, sampling: Sampling, sizes: Sequence[int], seed: int) -> None:
        self.seed = seed
        self.shares = sampling.shares(sizes)
        self.largest = sizes.index(max(sizes))
        # Long enough that the largest dataset has more turns in a block than the rounding of many others can take.
        self.block_length = max(TURNS_PER_BLOCK, len(sizes) ** 2)

    def sources(self, start: int = 0) -> Iterator[int]:
        """Yield the index of the dataset of each row, endlessly.

        Args:
            start: First position. The counts of the blocks before it are computed again.

        Yields:
            Indexes of datasets.
        """
        first_block, skipped = divmod(start, self.block_length)
        for block, counts in enumerate(self._counts()):
            if block >= first_block:
                turns = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
                order = torch.randperm(self.block_length, generator=_generator(self.seed, _BLOCK, block))
                yield from turns[order][skipped:].tolist()
                skipped = 0

    def _counts(self) -> Iterator[list[int]]:
        """Yield the number of turns of each dataset in each block."""
        due = [0.0] * len(self.shares)
        given = [0] * len(self.shares)
        while True:
            due = [turns + self.block_length * share for turns, share in zip(due, self.shares, strict=True)]
            counts = [round(turns) - before for turns, before in zip(due, given, strict=True)]
            counts[self.largest] += self.block_length - sum(counts)
            given = [before + turns for before, turns in zip(given, counts, strict=True)]
            yield counts


def shuffled(num_rows: int, seed: int, *block: int) -> torch.Tensor:
    """Return the shuffled order of a block of streamed rows.

    Args:
        num_rows: Number of rows in the block.
        seed: Seed of the order.
        block: Numbers that identify the block.

    Returns:
        Indexes of the rows, ``(num_rows,)``.
    """
    return torch.randperm(num_rows, generator=_generator(seed, _STREAM, *block))


def _largest_remainder(due: Sequence[Fraction], total: int) -> list[int]:
    """Round numbers to integers with a given sum by the largest remainder method."""
    counts = [math.floor(rows) for rows in due]
    by_remainder = sorted(range(len(due)), key=lambda i: counts[i] - due[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _generator(seed: int, purpose: int, *indexes: int) -> torch.Generator:
    """Return the random generator of one dataset, epoch or block; it is the same in every process."""
    state = np.random.SeedSequence(seed, spawn_key=(purpose, *indexes)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
