"""Mixing several training datasets into one stream of rows, in an order that seed and epoch alone decide."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

import numpy as np
import torch

from ...models.messages import unknown_name_message

STRATEGIES = ("proportional", "uniform", "temperature", "round_robin", "annealed")
STOPPING = ("first_exhausted", "all_exhausted")

# Positions of an endless mix that are shuffled together.
TURNS_PER_BLOCK = 1000

# What a generator is for; it keeps epoch 1 from shuffling as dataset 1 does.
_CIRCLE, _EPOCH, _BLOCK, _STREAM = range(4)


@dataclass
class Sampling:
    """How much of each dataset a mix takes.

    Args:
        strategy: ``proportional``: as many rows as a dataset has. ``uniform``: the same from each. ``temperature``:
            rows ** (1 / temperature). ``round_robin``: the same from each, in strict turns. ``annealed``: rows **
            (1 - 0.8 * progress), from proportional to nearly uniform over the training ("annealed sampling" of
            Stickland & Murray 2019, arXiv:1902.02671).
        temperature: For ``temperature`` only, from 1 (proportional) up; the higher, the closer to uniform.
        stopping: How long an epoch is. ``first_exhausted``: as long as no dataset has to repeat a row;
            ``all_exhausted``: until each dataset has come whole, smaller ones repeated.

    Raises:
        ValueError: If a value is not one of those.
    """

    strategy: str = "proportional"
    temperature: float = 2.0
    stopping: str = "first_exhausted"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(unknown_name_message("sampling strategy", self.strategy, STRATEGIES))
        if self.stopping not in STOPPING:
            raise ValueError(unknown_name_message("stopping", self.stopping, STOPPING))
        number = isinstance(self.temperature, (int, float)) and not isinstance(self.temperature, bool)
        if not number or not 1 <= self.temperature < math.inf:
            raise ValueError(f"sampling: temperature must be a finite number from 1, found {self.temperature!r}.")

    @property
    def needs_sizes(self) -> bool:
        """Whether the shares depend on the number of rows of each dataset."""
        return self.strategy not in ("uniform", "round_robin")

    def shares(self, sizes: Sequence[int], progress: float = 0.0) -> list[float]:
        """Return each dataset's share of the rows.

        Args:
            sizes: Rows of each dataset.
            progress: How much of the training is done, from 0 to 1; only ``annealed`` depends on it.

        Returns:
            The shares; they sum to 1.

        Raises:
            ValueError: If there is no dataset, or one without rows.
        """
        return [float(share) for share in self.exact_shares(sizes, progress)]

    def exact_shares(self, sizes: Sequence[int], progress: float = 0.0) -> list[Fraction]:
        """Return what `shares` does, as fractions: with floats, an epoch could come out one row short."""
        if not sizes:
            raise ValueError("sampling: no dataset to take rows from.")
        for index, size in enumerate(sizes):
            if size < 1:
                raise ValueError(f"sampling: dataset {index} has no rows (sizes: {list(sizes)}).")
        exponents = {"proportional": 1, "temperature": 1 / self.temperature, "annealed": 1 - 0.8 * progress}
        exponent = exponents.get(self.strategy, 0)
        # Rounded, because 64 ** (1 / 3) is 3.9999999999999996, and the last digit differs between machines.
        weights = [Fraction(round(size**exponent, 9)) for size in sizes]
        return [weight / sum(weights) for weight in weights]


class MixedOrder:
    """Which rows of several datasets an epoch takes, in which order.

    The rows of a dataset lie on a circle, in an order of its own. An epoch takes the next stretch of it, from where
    the epoch before ended: a stretch no longer than the circle repeats no row, one at least as long holds every row,
    and the rows that one epoch leaves out come next.

    Args:
        sizes: Rows of each dataset.
        sampling: How much of each an epoch takes.
        seed: Seed of the order, from 0.
        num_epochs: Epochs of the training, over which ``annealed`` changes the shares; later ones are as the last.

    Raises:
        ValueError: If there is no dataset, or one without rows.
    """

    def __init__(self, sizes: Sequence[int], sampling: Sampling, seed: int, num_epochs: int) -> None:
        self.sizes = list(sizes)
        self.sampling = sampling
        self.seed = seed
        self.last_epoch = max(num_epochs - 1, 0) if sampling.strategy == "annealed" else 0
        # Rows after which a dataset's share is all that it has, by epoch and dataset.
        whole = [
            [size / share for size, share in zip(self.sizes, self._shares(epoch), strict=True)]
            for epoch in range(self.last_epoch + 1)
        ]
        if sampling.stopping == "first_exhausted":
            self.num_rows = math.floor(min(map(min, whole)))
        else:
            self.num_rows = math.ceil(max(map(max, whole)))

    def __len__(self) -> int:
        return self.num_rows

    def _shares(self, epoch: int) -> list[Fraction]:
        progress = min(epoch, self.last_epoch) / max(self.last_epoch, 1)
        return self.sampling.exact_shares(self.sizes, progress)

    def counts(self, epoch: int) -> list[int]:
        """Return how many rows of each dataset an epoch takes: its share, rounded by largest remainder."""
        due = [share * self.num_rows for share in self._shares(epoch)]
        counts = [math.floor(rows) for rows in due]
        by_remainder = sorted(range(len(due)), key=lambda i: counts[i] - due[i])
        for i in by_remainder[: self.num_rows - sum(counts)]:
            counts[i] += 1
        return counts

    def rows(self, epoch: int) -> torch.Tensor:
        """Return the rows of an epoch.

        Args:
            epoch: The epoch, from 0.

        Returns:
            Indexes into the concatenation of the datasets, ``(rows,)``, in the order of the epoch: shuffled, or
            turn by turn with ``round_robin``.
        """
        counts = self.counts(epoch)
        starts = np.sum([self.counts(earlier) for earlier in range(epoch)] or [[0] * len(counts)], axis=0)
        taken, offset = [], 0
        for i, size in enumerate(self.sizes):
            circle = torch.randperm(size, generator=_generator(self.seed, _CIRCLE, i))
            taken.append(offset + circle[(int(starts[i]) + torch.arange(counts[i])) % size])
            offset += size
        generator = _generator(self.seed, _EPOCH, epoch)
        if self.sampling.strategy == "round_robin":
            shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in taken]
            return torch.stack(shuffled, dim=1).flatten()
        return torch.cat(taken)[torch.randperm(self.num_rows, generator=generator)]


class MixedTurns:
    """Which of several datasets gives the next row of an endless mix; a function of the position alone.

    Turns are shuffled in blocks of 1,000 (more with above 31 datasets). At the end of each block a dataset has given
    what its shares of the blocks so far come to, rounded; the largest one takes up what rounding the others leaves.
    ``round_robin`` takes strict turns.

    Args:
        sampling: How much of each dataset the mix takes; its ``stopping`` does not matter.
        sizes: Rows of each dataset, None where that is not known.
        seed: Seed of the order, from 0.
        total_rows: Rows that the training takes, over which ``annealed`` changes the shares.

    Raises:
        ValueError: If the strategy needs a number of rows that is None.
    """

    def __init__(
        self, sampling: Sampling, sizes: Sequence[int | None], seed: int, total_rows: int | None = None
    ) -> None:
        if None in sizes and sampling.needs_sizes:
            raise ValueError(
                f"sampling: {sampling.strategy!r} needs the number of rows of each dataset, and that of dataset "
                f"{list(sizes).index(None)} is not known; use 'uniform' or 'round_robin'."
            )
        if sampling.strategy == "annealed" and not total_rows:
            raise ValueError("sampling: 'annealed' needs the number of rows that the training takes (total_rows).")
        self.sampling = sampling
        self.sizes = [1 if size is None else size for size in sizes]
        self.seed = seed
        self.total_rows = total_rows
        self.shares = sampling.shares(self.sizes)
        # The largest dataset's turns in a block are more than what rounding many others may take from it.
        self.block_length = max(TURNS_PER_BLOCK, len(self.sizes) ** 2)

    def sources(self, start: int = 0) -> Iterator[int]:
        """Yield the index of the dataset that gives the row, endlessly.

        Args:
            start: Position to begin at; the counts of the blocks in front of it are worked out anew.

        Yields:
            Indexes of datasets.
        """
        if self.sampling.strategy == "round_robin":
            yield from (position % len(self.sizes) for position in count(start))
        first_block, skipped = divmod(start, self.block_length)
        for block, counts in enumerate(self._counts()):
            if block >= first_block:
                turns = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
                order = torch.randperm(self.block_length, generator=_generator(self.seed, _BLOCK, block))
                yield from turns[order][skipped:].tolist()
                skipped = 0

    def _counts(self) -> Iterator[list[int]]:
        """Yield the turns of each dataset in a block, block by block."""
        largest = self.sizes.index(max(self.sizes))
        due = [0.0] * len(self.sizes)
        given = [0] * len(self.sizes)
        for block in count():
            due = [rows + self.block_length * share for rows, share in zip(due, self._shares(block), strict=True)]
            counts = [round(rows) - before for rows, before in zip(due, given, strict=True)]
            counts[largest] += self.block_length - sum(counts)
            given = [before + turns for before, turns in zip(given, counts, strict=True)]
            yield counts

    def _shares(self, block: int) -> list[float]:
        if self.sampling.strategy != "annealed" or self.total_rows is None:
            return self.shares
        return self.sampling.shares(self.sizes, min(block * self.block_length / self.total_rows, 1.0))


def shuffled(num_rows: int, seed: int, *block: int) -> torch.Tensor:
    """Return the order of a block of rows that a stream reads.

    Args:
        num_rows: Number of rows in the block.
        seed: Seed of the order.
        block: Which block it is: numbers that no other block has.

    Returns:
        The indexes of the rows in their order.
    """
    return torch.randperm(num_rows, generator=_generator(seed, _STREAM, *block))


def _generator(seed: int, purpose: int, *indexes: int) -> torch.Generator:
    """Make the random generator of one dataset, epoch or block; it is the same in every process."""
    state = np.random.SeedSequence(seed, spawn_key=(purpose, *indexes)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
