"""Training rows that are read, tokenized and put into batches while they are used."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from ..models.collator import columns_to_rows
from ..models.text_alignment import Aligner
from ..models.type_aliases import Row
from .batches.mixing import MixedTurns, Sampling, shuffled
from .dataset_loader import ROWS_AT_ONCE, DatasetLoader
from .preparation_report import PreparationReport
from .readers.rows import Rows

# Rows of a dataset that are shuffled together; as many are in memory.
SHUFFLE_ROWS = 10_000
# What a batch of a stream has beside the model's inputs.
STREAM_KEY = "stream"

Numbered = tuple[int, Row]


class StreamedDataset:
    """The training rows of one dataset, prepared while they are used.

    Args:
        loaded: The dataset, whose tasks are complete.
        aligner: What tokenizes its rows.
        tasks: All tasks of the model.
        num_rows: Number of its training rows, None where that is not known.
    """

    def __init__(
        self, loaded: DatasetLoader, aligner: Aligner, tasks: Sequence[Any], num_rows: int | None = None
    ) -> None:
        self.loaded = loaded
        self.aligner = aligner
        self.tasks = list(tasks)
        self.num_rows = num_rows

    def prepare(self, raw: Sequence[Numbered], report: PreparationReport) -> list[Row]:
        """Check, label and tokenize rows.

        Args:
            raw: Items of `DatasetLoader.raw_train`, each with its number.
            report: Counts what becomes of them.

        Returns:
            The prepared rows, as the collator takes them.

        Raises:
            ValueError: If something in them is wrong. The message names file and line.
        """
        located = [self.loaded.locate(row) for _, row in raw]
        rows = Rows.collect(self.loaded.name_of("train"), located, [number for number, _ in raw])
        report.add(self.loaded.check(rows))
        labels, encoded = self.loaded.encode(rows, self.tasks)
        report.add(encoded)
        columns = {"labels": labels, **self.aligner({**self.loaded.inputs(rows), "labels": labels})}
        report.add_tokenised(columns)
        return columns_to_rows(columns)

    def count_rows(self) -> int:
        """Return the number of training rows; they are read once if it is not known yet."""
        if self.num_rows is None:
            self.num_rows = sum(1 for _ in self.loaded.raw_train())
        return self.num_rows


class TrainingStream(IterableDataset):
    """The training rows of one or several datasets, never all in memory.

    Iterated, it yields the prepared rows of one dataset after the other, once. For training `StreamBatches` shuffles
    and mixes them.

    Args:
        data_sets: The datasets.
    """

    def __init__(self, data_sets: Sequence[StreamedDataset]) -> None:
        self.data_sets = list(data_sets)

    def __iter__(self) -> Iterator[Row]:
        for data_set in self.data_sets:
            rows = enumerate(data_set.loaded.raw_train())
            while part := list(islice(rows, ROWS_AT_ONCE)):
                yield from data_set.prepare(part, PreparationReport())


class StreamBatches(IterableDataset):
    """Endless batches of a `TrainingStream`, shuffled and mixed.

    The rows and their order are a function of the seed alone. A batch of all processes together takes the next rows;
    each process reads all of them, and tokenizes its own. Beside the model's inputs a batch has ``stream``: where to
    go on behind it, and what became of its rows.

    Args:
        stream: The rows.
        collate: Puts prepared rows into a batch.
        sampling: How much of each dataset the mix takes.
        seed: Seed of the order.
        batch_size: Rows of a batch on each process.
        num_processes: Number of processes.
        process_index: Which of them this is.
    """

    def __init__(
        self,
        stream: TrainingStream,
        collate: Callable[[list[Row]], dict[str, Any]],
        sampling: Sampling,
        seed: int,
        batch_size: int,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        self.stream = stream
        self.collate = collate
        self.seed = seed
        self.batch_size = batch_size
        self.num_processes = num_processes
        self.process_index = process_index
        data_sets = stream.data_sets
        needs_sizes = len(data_sets) > 1 and sampling.needs_sizes
        sizes = [data_set.count_rows() if needs_sizes else 1 for data_set in data_sets]
        self.turns = MixedTurns(sampling, sizes, seed)
        self._start: dict[str, Any] = {"batches": 0, "data_sets": [None] * len(data_sets)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind a batch.

        The batches in front of it come as None: a Trainer that resumes passes over as many as it has trained on.

        Args:
            state: What the batch has as ``stream``'s ``"state"``.
        """
        self._start = state

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        worker = get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        done = self._start["batches"]
        yield from (None for number in range(done) if number % workers == own)
        data_sets = self.stream.data_sets
        readers = [
            _EndlessReader(data_set.loaded.raw_train(), self.seed, number, state)
            for number, (data_set, state) in enumerate(zip(data_sets, self._start["data_sets"], strict=True))
        ]
        rows_per_step = self.batch_size * self.num_processes
        turns = self.turns.sources(done * rows_per_step)
        while True:
            chosen = [(number, next(readers[number])) for number in islice(turns, rows_per_step)]
            done += 1
            if (done - 1) % workers == own:
                first = self.process_index * self.batch_size
                batch = self._prepare(chosen[first : first + self.batch_size])
                batch[STREAM_KEY]["state"] = {"batches": done, "data_sets": [reader.state() for reader in readers]}
                yield batch

    def _prepare(self, chosen: Sequence[tuple[int, Numbered]]) -> dict[str, Any]:
        prepared: list[Row] = [{} for _ in chosen]
        report = PreparationReport()
        for number, data_set in enumerate(self.stream.data_sets):
            places = [i for i, (source, _) in enumerate(chosen) if source == number]
            if places:
                rows = data_set.prepare([chosen[i][1] for i in places], report)
                for i, row in zip(places, rows, strict=True):
                    prepared[i] = row
        return {**self.collate(prepared), STREAM_KEY: {"report": report}}


class _EndlessReader:
    """Reads the rows of a dataset again and again, shuffled in blocks of `SHUFFLE_ROWS`.

    The shuffle of ``datasets`` itself does not keep what its buffer holds, so it can't go on exactly where it was.

    Args:
        raw: The rows.
        seed: Seed of the order.
        number: Which of several datasets this is.
        state: Where to go on, as `state` has returned it; at the beginning where None.
    """

    def __init__(self, raw: datasets.IterableDataset, seed: int, number: int, state: dict[str, Any] | None) -> None:
        self.raw = raw
        self.seed = seed
        self.number = number
        state = state or {"pass": 0, "block": 0, "taken": 0, "raw": None}
        self.passes, self.block, self.taken, self.raw_state = (state[key] for key in ("pass", "block", "taken", "raw"))
        self._rows: Iterator[Numbered] | None = None

    def state(self) -> dict[str, Any]:
        """Return where the next row is: the block, where it begins in the rows, and what is taken of it."""
        return {"pass": self.passes, "block": self.block, "taken": self.taken, "raw": self.raw_state}

    def __iter__(self) -> "_EndlessReader":
        return self

    def __next__(self) -> Numbered:
        if self._rows is None:
            self._rows = self._read()
        return next(self._rows)

    def _read(self) -> Iterator[Numbered]:
        while True:
            # A state counts for the pass that it was taken in; another pass begins at the beginning.
            self.raw.set_epoch(self.passes)
            if self.raw_state is not None:
                self.raw.load_state_dict(self.raw_state)
            # Iterated row by row in a worker of a DataLoader it would leave out the rows of the other workers.
            for columns in self.raw.iter(batch_size=SHUFFLE_ROWS):
                behind = self.raw.state_dict()
                block = columns_to_rows(columns)
                first = self.block * SHUFFLE_ROWS
                order = shuffled(len(block), self.seed, self.number, self.passes, self.block)
                for i in order[self.taken :].tolist():
                    self.taken += 1
                    yield first + i, block[i]
                del block  # or it would stay in memory while the next one is read
                self.block, self.taken, self.raw_state = self.block + 1, 0, behind
            if self.block == 0:
                raise ValueError(f"dataset {self.number}: expected at least one training row, found none.")
            self.passes, self.block, self.raw_state = self.passes + 1, 0, None


def identity(batch: Any) -> Any:
    """Return a batch as it is: what a ``DataLoader`` of batches needs to collate nothing."""
    return batch
