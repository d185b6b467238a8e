"""The order of rows: batches of like length, so that little is padding."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from .mixing import MixedOrder

# A group is shuffled rows sorted by length; larger groups pad less, smaller ones mix rows better.
BATCHES_PER_GROUP = 50


class EpochLengthGroupedSampler(Sampler[int]):
    """Shuffles rows so that those of a batch have like lengths, in an order that seed and epoch alone decide.

    The order does not depend on the state of a random generator, so a run that is resumed inside an epoch sees the
    batches that the uninterrupted one sees.

    Rows are sorted by length only within groups of 50 batches. Of a mix of datasets, each group so has the rows that
    the mix has there: with strict turns as many of each dataset, though its batches may differ where lengths do.

    Args:
        lengths: Length of each row; with a mix, of the datasets one after the other.
        batch_size: Rows that one optimizer step takes, on all processes.
        seed: Seed of the order.
        epoch: Returns the epoch whose order is wanted.
        order: Which rows an epoch takes, where it is not each row once.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
        order: MixedOrder | None = None,
    ) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.order = order

    def __len__(self) -> int:
        return len(self.lengths if self.order is None else self.order)

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch()
        generator = epoch_generator(self.seed, epoch)
        if self.order is None:
            shuffled = torch.randperm(len(self.lengths), generator=generator)
        else:
            shuffled = self.order.rows(epoch)
        batches = []
        for group in shuffled.split(self.batch_size * BATCHES_PER_GROUP):
            by_length = group[self.lengths[group].argsort(descending=True, stable=True)]
            batches.extend(by_length.split(self.batch_size))
        # A short batch stays last: anywhere else it would shift the rows of all batches behind it.
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        order = torch.randperm(len(batches), generator=generator).tolist()
        for batch in [batches[i] for i in order] + last:
            yield from batch.tolist()


class LengthSortedSampler(Sampler[int]):
    """Longest rows first, so that batches pad little and the largest comes first.

    Args:
        lengths: Length of each row.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.order = torch.as_tensor(lengths).argsort(descending=True, stable=True).tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Make the random generator of an epoch; it is the same in every process.

    Args:
        seed: Seed of the order.
        epoch: The epoch, from 0.
    """
    return torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
