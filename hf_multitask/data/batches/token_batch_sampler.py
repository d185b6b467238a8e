"""Batches with a maximum number of tokens, including padding."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import datasets
import torch
from torch.utils.data import Sampler

from ...models.token_batches import cut_batches, rows_per_batch
from .mixing import MixedOrder
from .samplers import LengthSortedSampler, epoch_generator


class TokenBatchSampler(Sampler[list[int]]):
    """Batch sampler of one process, with rows of similar length in a batch.

    The order depends only on the seed, the epoch and the number of processes.

    The class of a row is the number of rows of its length that fit into ``max_tokens``. Rows are shuffled, sorted by
    class with the longest first, and cut into batches; the class of the first row of a batch is its size. Then the
    batches are shuffled.

    The Trainer needs the same number of batches in every epoch. The number depends only on the classes, so that it is
    constant if each epoch has each row once. The epochs of a mix have different rows: each epoch then gets the number
    of batches of the epoch that needs most, rounded up to a multiple of the number of processes, by halving the
    batches with the most rows. The shares of a mix are exact per epoch, not within it.

    Args:
        lengths: Number of tokens of each row, from `padded_lengths`; for a mix, of the concatenated datasets.
        max_tokens: Maximum number of tokens in a batch: its number of rows times the longest. A longer row is a batch
            of one.
        seed: Seed of the order.
        epoch: Function that returns the current epoch.
        order: Rows of each epoch. If None, an epoch has each row once.
        num_epochs: Number of epochs of the training.
        total_batches: Number of batches of the training on all processes, if it ends after a number of steps instead.
        num_processes: Number of processes, which all get the same number of batches.
        process_index: Index of this process.

    Raises:
        ValueError: If there are too few rows to give each process the same number of batches.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        seed: int,
        epoch: Callable[[], int],
        order: MixedOrder | None = None,
        num_epochs: int = 1,
        total_batches: int | None = None,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        self.classes = _classes(lengths, max_tokens)
        self.seed = seed
        self.epoch = epoch
        self.order = order
        self.num_processes = num_processes
        self.process_index = process_index
        most = self._most_batches(num_epochs, total_batches)
        self.num_batches = -(-most // num_processes) * num_processes
        num_rows = len(self.classes if order is None else order)
        if self.num_batches > num_rows:
            raise ValueError(
                f"max_tokens_per_batch={max_tokens} makes {most} batches of {num_rows} rows, which cannot be split so "
                f"that each of {num_processes} processes has the same number; set it higher, or start fewer processes."
            )

    def __len__(self) -> int:
        return self.num_batches // self.num_processes

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch()
        generator = epoch_generator(self.seed, epoch)
        if self.order is None:
            shuffled = torch.randperm(len(self.classes), generator=generator)
        else:
            shuffled = self.order.rows(epoch)
        classes, by_class = self.classes[shuffled].sort(stable=True)
        rows = shuffled[by_class].tolist()
        batches = [rows[start:end] for start, end in cut_batches(classes.tolist())]
        _halve_largest(batches, self.num_batches)
        order = torch.randperm(len(batches), generator=generator).tolist()
        for i in islice(order, self.process_index, None, self.num_processes):
            yield batches[i]

    def _most_batches(self, num_epochs: int, total_batches: int | None) -> int:
        """Return the number of batches of the epoch that needs the most."""
        if self.order is None:
            return len(cut_batches(self.classes.sort().values.tolist()))
        most, epoch = 0, 0
        while epoch < max(num_epochs, 1) if total_batches is None else epoch * most < total_batches:
            most = max(most, len(cut_batches(self.classes[self.order.rows(epoch)].sort().values.tolist())))
            epoch += 1
        return most


class SortedTokenBatchSampler(Sampler[list[int]]):
    """Batch sampler of an evaluation, longest rows first.

    Args:
        lengths: Number of tokens of each row, from `padded_lengths`.
        max_tokens: Maximum number of tokens in a batch: its number of rows times the longest. A longer row is a batch
            of one.
    """

    def __init__(self, lengths: Sequence[int], max_tokens: int) -> None:
        # The name that the batch samplers of torch have; predictions are put back into row order with it.
        self.sampler = LengthSortedSampler(lengths)
        self.cuts = cut_batches(_classes(lengths, max_tokens)[self.sampler.order].tolist())

    def __len__(self) -> int:
        return len(self.cuts)

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in self.cuts:
            yield self.sampler.order[start:end]


def padded_lengths(dataset: datasets.Dataset, length_column: str) -> list[int]:
    """Return the number of tokens of each row; for a row in windows, the number of windows times the longest window.

    Args:
        dataset: Prepared rows.
        length_column: Column of their lengths.
    """
    if "window_lengths" not in dataset.column_names:
        return dataset[length_column][:]
    return [len(windows) * max(windows) for windows in dataset["window_lengths"][:]]


def _classes(lengths: Sequence[int], max_tokens: int) -> torch.Tensor:
    """Return for each row the number of rows of its length that fit into a batch, ``(num_rows,)``.

    In a batch of r rows, r being the class of its longest, no row is longer than ``max_tokens / r``. Windows do not
    change that: the windows of the other rows are padded to the longest window, which a row of several windows counts
    at least twice.
    """
    return torch.from_numpy(rows_per_batch(lengths, max_tokens))


def _halve_largest(batches: list[list[int]], count: int) -> None:
    """Halve the batches with the most rows until there are ``count`` batches."""
    by_rows = [(-len(batch), i) for i, batch in enumerate(batches)]
    heapq.heapify(by_rows)
    while len(batches) < count:
        i = by_rows[0][1]
        middle = len(batches[i]) // 2
        batches.append(batches[i][middle:])
        batches[i] = batches[i][:middle]
        heapq.heapreplace(by_rows, (-len(batches[i]), i))
        heapq.heappush(by_rows, (-len(batches[-1]), len(batches) - 1))
