"""Batches of as many rows as fit into a number of tokens, padding counted."""

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
    """Batches of like length of one process, in an order that seed, epoch and number of processes alone decide.

    A row's class is how many rows of its length fit into ``max_tokens``. Rows are shuffled, sorted by class, those of
    the longest first, and cut: the class of a batch's first row is how many it holds. Then the batches are shuffled.

    The Trainer counts on the same number of batches in every epoch. It is a function of the classes alone, so that it
    is the same wherever an epoch takes each row once. The epochs of a mix take different rows: each then has as many
    batches as the one that needs most, rounded up to the number of processes, and gets them by halving the batches
    with most rows. The shares of a mix hold over an epoch, not for each part of it.

    Args:
        lengths: Tokens of each row, as `padded_lengths` returns them; of a mix, its datasets one after the other.
        max_tokens: Tokens of a batch: its number of rows times the longest. A row above it is a batch of its own.
        seed: Seed of the order.
        epoch: Returns the epoch whose order is wanted.
        order: Which rows an epoch takes, where it is not each row once.
        num_epochs: Epochs of the training.
        total_batches: Batches that the training takes on all processes, where it ends behind so many instead.
        num_processes: Number of processes; each takes as many batches.
        process_index: Which of them this is.

    Raises:
        ValueError: If there are too few rows to give each process as many batches.
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
                f"that each of {num_processes} processes has as many; set it higher, or start fewer processes."
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
        """Return the number of batches of the epoch that needs most."""
        if self.order is None:
            return len(cut_batches(self.classes.sort().values.tolist()))
        most, epoch = 0, 0
        while epoch < max(num_epochs, 1) if total_batches is None else epoch * most < total_batches:
            most = max(most, len(cut_batches(self.classes[self.order.rows(epoch)].sort().values.tolist())))
            epoch += 1
        return most


class SortedTokenBatchSampler(Sampler[list[int]]):
    """Batches of an evaluation, longest rows first.

    Args:
        lengths: Tokens of each row, as `padded_lengths` returns them.
        max_tokens: Tokens of a batch: its number of rows times the longest. A row above it is a batch of its own.
    """

    def __init__(self, lengths: Sequence[int], max_tokens: int) -> None:
        # The order of the rows is where the batch samplers of torch have it.
        self.sampler = LengthSortedSampler(lengths)
        self.cuts = cut_batches(_classes(lengths, max_tokens)[self.sampler.order].tolist())

    def __len__(self) -> int:
        return len(self.cuts)

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in self.cuts:
            yield self.sampler.order[start:end]


def padded_lengths(dataset: datasets.Dataset, length_column: str) -> list[int]:
    """Return the tokens of each row; of a row in windows, the number of windows times the longest.

    Args:
        dataset: Prepared rows.
        length_column: The column with their lengths.
    """
    if "window_lengths" not in dataset.column_names:
        return dataset[length_column][:]
    return [len(windows) * max(windows) for windows in dataset["window_lengths"][:]]


def _classes(lengths: Sequence[int], max_tokens: int) -> torch.Tensor:
    """Return how many rows of each row's length fit into a batch.

    No row of a batch of r rows, the class of its longest, is longer than ``max_tokens / r``. Windows change nothing: a
    row of several has one of the greatest length, which the other rows' windows are padded to, and counts it twice.
    """
    return torch.from_numpy(rows_per_batch(lengths, max_tokens))


def _halve_largest(batches: list[list[int]], count: int) -> None:
    """Halve the batches with most rows until there are so many."""
    by_rows = [(-len(batch), i) for i, batch in enumerate(batches)]
    heapq.heapify(by_rows)
    while len(batches) < count:
        i = by_rows[0][1]
        middle = len(batches[i]) // 2
        batches.append(batches[i][middle:])
        batches[i] = batches[i][:middle]
        heapq.heapreplace(by_rows, (-len(batches[i]), i))
        heapq.heappush(by_rows, (-len(batches[-1]), len(batches) - 1))
