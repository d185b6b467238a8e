"""Training rows that are read, tokenized and batched during training."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TypeVar

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from ..models.collator import columns_to_rows
from ..models.tasks import TaskConfig
from ..models.text_alignment import Aligner
from ..models.type_aliases import Batch, JsonObject, Row
from .batches.mixing import MixedTurns, Sampling, shuffled
from .dataset_loader import ROWS_AT_ONCE, TRAIN, DatasetLoader
from .preparation_report import PreparationReport
from .readers.rows import Rows

# Number of rows of a dataset that are shuffled together and in memory together.
SHUFFLE_ROWS = 10_000
# Key in a batch of the state of the stream after it, and of the report of its rows.
STREAM_KEY = "stream"

Numbered = tuple[int, Row]
_Item = TypeVar("_Item")


class StreamedDataset:
    """Training rows of one dataset, prepared during training.

    Args:
        loader: Loader of the dataset.
        aligner: Aligner of the training rows.
        tasks: All tasks of the model, complete.
    """

    def __init__(self, loader: DatasetLoader, aligner: Aligner, tasks: Sequence[TaskConfig]) -> None:
        self.loader = loader
        self.aligner = aligner
        self.tasks = list(tasks)

    def prepare(self, raw: Sequence[Numbered], report: PreparationReport) -> list[Row]:
        """Check, encode and tokenize rows.

        Args:
            raw: Items of `DatasetLoader.raw_train`, each with its number.
            report: Report that the counts of these rows are added to.

        Returns:
            The prepared rows, as the collator takes them.

        Raises:
            ValueError: If something in the rows is wrong. The message names file and line.
        """
        located = [self.loader.locate(row) for _, row in raw]
        rows = self.loader.check(Rows.collect(self.loader.name_of(TRAIN), located, [number for number, _ in raw]))
        self.loader.encode(rows, self.tasks, keeps_outliers=True)
        columns = self.loader.prepare(rows, self.tasks, self.aligner)
        report.add(rows.report)
        return columns_to_rows({"labels": rows.labels, **columns})

    @cached_property
    def num_rows(self) -> int:
        """Number of training rows; the first access reads all of them."""
        return sum(1 for _ in self.loader.raw_train())


class TrainingStream(IterableDataset):
    """Training rows of one or several datasets, never all in memory.

    Iteration yields the prepared rows once, one dataset after the other. For training, `StreamBatches` shuffles and
    mixes them.

    Args:
        datasets: The datasets.
    """

    def __init__(self, datasets: Sequence[StreamedDataset]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Row]:
        for dataset in self.datasets:
            rows = enumerate(dataset.loader.raw_train())
            while chunk := list(islice(rows, ROWS_AT_ONCE)):
                yield from dataset.prepare(chunk, PreparationReport())


class StreamBatches(IterableDataset):
    """Endless batches of a `TrainingStream`, shuffled and mixed.

    The rows and their order depend only on the seed. The batches of all processes together take the next rows. Each
    process reads all rows, and tokenizes its own. Besides the model's inputs, a batch contains ``stream``: the state
    to resume after it, and the report of its rows.

    Args:
        stream: The rows.
        collate: Function that makes a batch of prepared rows.
        sampling: Share of each dataset in the mix.
        seed: Seed of the order.
        batch_size: Number of rows per batch and process.
        num_processes: Number of processes.
        process_index: Index of this process.
    """

    def __init__(
        self,
        stream: TrainingStream,
        collate: Callable[[list[Row]], Batch],
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
        # Counting the rows reads all of them, which is needed for some mixes only.
        needs_sizes = len(stream.datasets) > 1 and sampling.needs_sizes
        sizes = [dataset.num_rows if needs_sizes else 1 for dataset in stream.datasets]
        self.turns = MixedTurns(sampling, sizes, seed)
        # Checkpoints contain this state, so that its keys keep their names.
        self._start: JsonObject = {"batches": 0, "data_sets": [None] * len(sizes)}

    def load_state_dict(self, state: JsonObject) -> None:
        """Resume after a batch.

        The batches before it are yielded as None, because a Trainer that resumes skips the batches that it has
        trained on.

        Args:
            state: The ``"state"`` in ``stream`` of the batch.
        """
        self._start = state

    def __iter__(self) -> Iterator[Batch | None]:
        worker = get_worker_info()
        num_workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        done = self._start["batches"]
        yield from (None for number in range(done) if number % num_workers == own)
        readers = [
            _EndlessReader(dataset.loader.raw_train(), self.seed, number, state)
            for number, (dataset, state) in enumerate(zip(self.stream.datasets, self._start["data_sets"], strict=True))
        ]
        rows_per_step = self.batch_size * self.num_processes
        turns = self.turns.sources(done * rows_per_step)
        while True:
            chosen = [(number, next(readers[number])) for number in islice(turns, rows_per_step)]
            done += 1
            if (done - 1) % num_workers == own:
                first = self.process_index * self.batch_size
                batch = self._prepare(chosen[first : first + self.batch_size])
                batch[STREAM_KEY]["state"] = {"batches": done, "data_sets": [reader.state() for reader in readers]}
                yield batch

    def _prepare(self, chosen: Sequence[tuple[int, Numbered]]) -> Batch:
        """Prepare rows, given with the number of their dataset, and collate them in their order."""
        prepared: list[Row] = [{} for _ in chosen]
        report = PreparationReport()
        for number, dataset in enumerate(self.stream.datasets):
            positions = [i for i, (source, _) in enumerate(chosen) if source == number]
            if positions:
                rows = dataset.prepare([chosen[i][1] for i in positions], report)
                for i, row in zip(positions, rows, strict=True):
                    prepared[i] = row
        return {**self.collate(prepared), STREAM_KEY: {"report": report}}


class _EndlessReader:
    """Reader that repeats the rows of a dataset endlessly, shuffled in blocks of `SHUFFLE_ROWS`.

    The state of the ``datasets`` shuffle does not contain its buffer, so it cannot resume at the exact row.

    Args:
        raw: The rows.
        seed: Seed of the order.
        number: Number of the dataset among several.
        state: Position to resume at, as returned by `state`; the beginning if None.
    """

    def __init__(self, raw: datasets.IterableDataset, seed: int, number: int, state: JsonObject | None) -> None:
        self.raw = raw
        self.seed = seed
        self.number = number
        state = state or {"pass": 0, "block": 0, "taken": 0, "raw": None}
        self.passes, self.block, self.taken, self.raw_state = (state[key] for key in ("pass", "block", "taken", "raw"))
        self._rows: Iterator[Numbered] | None = None

    def state(self) -> JsonObject:
        """Return the position of the next row: the pass, the block and its start in the rows, and the rows used."""
        return {"pass": self.passes, "block": self.block, "taken": self.taken, "raw": self.raw_state}

    def __iter__(self) -> "_EndlessReader":
        return self

    def __next__(self) -> Numbered:
        if self._rows is None:
            self._rows = self._read()
        return next(self._rows)

    def _read(self) -> Iterator[Numbered]:
        while True:
            # A state is valid for the pass in which it was saved; every other pass starts at the first row.
            self.raw.set_epoch(self.passes)
            if self.raw_state is not None:
                self.raw.load_state_dict(self.raw_state)
            # Iterated row by row in a worker of a DataLoader, it would leave out the rows of the other workers.
            for columns in self.raw.iter(batch_size=SHUFFLE_ROWS):
                state_after_block = self.raw.state_dict()
                block = columns_to_rows(columns)
                first = self.block * SHUFFLE_ROWS
                order = shuffled(len(block), self.seed, self.number, self.passes, self.block)
                for i in order[self.taken :].tolist():
                    self.taken += 1
                    yield first + i, block[i]
                del block  # or it would stay in memory while the next one is read
                self.block, self.taken, self.raw_state = self.block + 1, 0, state_after_block
            if self.block == 0:
                raise ValueError(f"dataset {self.number}: expected at least one training row, found none.")
            self.passes, self.block, self.raw_state = self.passes + 1, 0, None


def identity(batch: _Item) -> _Item:
    """Return a batch unchanged, for a ``DataLoader`` that has nothing to collate."""
    return batch
