"""Samplers that put rows of similar length into a batch, to reduce padding."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from .mixing import MixedOrder

# Rows are shuffled, then sorted by length within groups. Larger groups pad less, smaller groups mix rows better.
BATCHES_PER_GROUP = 50


class EpochLengthGroupedSampler(Sampler[int]):
    """Sampler of shuffled rows, with rows of similar length in a batch; the order depends only on seed and epoch.

    The order does not depend on the state of a random generator, so that a run resumed within an epoch gets the same
    batches as an uninterrupted run.

    Rows are sorted by length only within groups of 50 batches, so that a mix of datasets stays mixed from group to
    group. The batches of a group may differ in their mix if the lengths of the datasets differ, unless
    ``Sampling.batches`` is ``mixed``.

    Args:
        lengths: Length of each row; for a mix, of the concatenated datasets.
        batch_size: Number of rows per optimizer step, on all processes.
        seed: Seed of the order.
        epoch: Function that returns the current epoch.
        order: Rows of each epoch. If None, an epoch has each row once.
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
            if self.order is not None:
                by_length = self.order.arranged(by_length)
            batches.extend(by_length.split(self.batch_size))
        # A short batch stays last: anywhere else it would shift the rows of all later batches.
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        order = torch.randperm(len(batches), generator=generator).tolist()
        for batch in [batches[i] for i in order] + last:
            yield from batch.tolist()


class LengthSortedSampler(Sampler[int]):
    """Sampler of the longest rows first, so that batches have little padding and the largest batch comes first.

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
    """Return the random generator of an epoch; it is the same in every process.

    Args:
        seed: Seed of the order.
        epoch: The epoch, from 0.
    """
    return torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
