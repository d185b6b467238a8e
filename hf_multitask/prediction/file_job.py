"""Predictions for files of any size, on any number of processes."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from ..data.readers.chunked_file import ChunkedFile
from ..data.readers.file_formats import file_features
from ..data.readers.file_reader import Columns
from ..data.readers.reading_options import ReadingOptions
from ..models import MultiTaskModel
from ..models.messages import unknown_name_message
from ..models.predictor import OutputOptions, Predictor
from ..models.type_aliases import JsonObject
from ..models.weights_digest import add_tensor
from ..runtime.processes import join_processes
from .batch_size import AUTO, BatchLimit, find_limit, limit_rows, predict_chunk
from .output_formats import OUTPUT_FORMATS, OutputFormat
from .prepared_chunks import ChunkPreparer, EndOfInput, PreparedChunk, prepared_chunks
from .working_folder import PartReport, WorkingFolder

ON_ERROR = STOP, SKIP = ("stop", "skip")
ERRORS_SUFFIX = ".errors.jsonl"


@dataclass(frozen=True)
class PredictionCounts:
    """Numbers of rows of a predicted file.

    Args:
        predicted: Number of rows with predictions.
        skipped: Number of broken rows that were skipped.
        earlier: Number of these rows that an earlier, unfinished run had processed.
    """

    predicted: int
    skipped: int
    earlier: int

    @property
    def read(self) -> int:
        """Number of all rows."""
        return self.predicted + self.skipped


# Called with the number of processed rows and the processed share of the input, from 0 to 1, or None if unknown.
OnProgress = Callable[[int, float | None], None]


@dataclass(frozen=True)
class BulkPrediction:
    """A file of texts to predict, and the file to write the predictions to.

    The input is read in chunks. Their predictions are kept in a folder next to the output, ``OUTPUT.parts``, until all
    are complete. After a run was killed, the next one continues with the missing chunks, on any number of processes.
    If ``torchrun`` or ``accelerate launch`` started several processes, each predicts a share of the chunks.

    Args:
        input: File with ``text`` or ``tokens``, in a format of `open_file`, or ``.txt`` with a text per line.
        output: File to write: ``.jsonl``, ``.csv`` or ``.parquet``.
        options: Content of the predictions.
        keep: Columns of the input to copy to the output, under their names in the input.
        format: Format of the input. Defaults to the format of the file's extension.
        columns: See `open_file`.
        reading: Form of the input, as far as it is known.
        batch_size: Number of rows per forward pass on each process, or ``"auto"`` for batches of the number of tokens
            that is fastest on the device.
        workers: Number of processes that each process starts to read and tokenize ahead.
        on_error: What to do with a broken row: ``"stop"``, or ``"skip"`` to leave it out and list it in
            ``OUTPUT.errors.jsonl``.
        overwrite: Whether to replace an existing output, and parts that were made with other settings.

    Raises:
        ValueError: If an argument is invalid.
        FileNotFoundError: If the input or the folder of the output does not exist.
        FileExistsError: If the output exists and ``overwrite`` is False.
    """

    input: Path
    output: Path
    options: OutputOptions = field(default_factory=lambda: OutputOptions(word_labels=True))
    keep: Sequence[str] = ()
    format: str | None = None
    columns: Columns | None = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    batch_size: int | str = AUTO
    workers: int = 0
    on_error: str = STOP
    overwrite: bool = False

    def __post_init__(self) -> None:
        ChunkedFile(self.input, self.format, self.columns, self.reading)
        if self.output.suffix not in OUTPUT_FORMATS:
            raise ValueError(f"output: {unknown_name_message('extension', self.output.suffix, OUTPUT_FORMATS)}")
        if not self.output.parent.is_dir():
            raise FileNotFoundError(f"output: there is no folder {str(self.output.parent)!r}.")
        if self.output.is_dir():
            raise FileExistsError(f"output: {str(self.output)!r} is a folder.")
        if self.output.exists() and self.input.exists() and self.output.samefile(self.input):
            raise ValueError(f"output: {str(self.output)!r} is the input.")
        if self.output.exists() and not self.overwrite:
            raise FileExistsError(f"output: {str(self.output)!r} exists already. Use --overwrite to replace it.")
        if self.on_error not in ON_ERROR:
            raise ValueError(f"on_error: {unknown_name_message('value', self.on_error, ON_ERROR)}")
        if self.batch_size != AUTO and not _is_integer(self.batch_size, 1):
            raise ValueError(f"batch_size must be 'auto' or a whole number from 1, found {self.batch_size!r}.")
        if not _is_integer(self.workers, 0):
            raise ValueError(f"workers must be a whole number from 0, found {self.workers!r}.")

    @property
    def errors_path(self) -> Path:
        """File that lists the skipped rows."""
        return self.output.with_name(self.output.name + ERRORS_SUFFIX)

    def run(
        self, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, on_progress: OnProgress | None = None
    ) -> PredictionCounts | None:
        """Predict the file. With several processes, each of them must call this.

        Args:
            model: The model. It is moved to the device of this process and set to eval mode.
            tokenizer: The tokenizer of the model.
            on_progress: Called on the main process after each chunk.

        Returns:
            The counts on the main process, after the output is written; None on the other processes.

        Raises:
            ValueError: If a row is broken and ``on_error`` is ``"stop"``, the input is empty or not in its format, or
                an option does not fit the model. Finished predictions are kept.
            FileExistsError: If there are parts made with other settings, or another run is predicting to this output.
            OSError: If a file cannot be read or written.
        """
        state = join_processes()
        run = _ProcessRun(self, model.to(state.device), tokenizer)
        # All processes check that there is no output before one of them can write it.
        state.wait_for_everyone()
        if state.is_main_process:
            run.folder.open(run.settings, self.overwrite)
        try:
            state.wait_for_everyone()
            count = run.predict_share(state, on_progress if state.is_main_process else None)
            return run.finish(count) if state.is_main_process else None
        finally:
            if state.is_main_process:
                run.folder.close()


class _ProcessRun:
    """The part of a job that one process does.

    Args:
        job: The job.
        model: The model, on the device.
        tokenizer: The tokenizer of the model.
    """

    def __init__(self, job: BulkPrediction, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.job, self.model, self.tokenizer = job, model, tokenizer
        self.folder = WorkingFolder(job.output)
        self.predictor = Predictor.of_model(model, tokenizer, job.options)
        for name in job.keep:
            if name in (task.name for task in self.predictor.tasks):
                raise ValueError(f"keep: {name!r} is the name of a task, whose predictions have that name.")
        self.source = ChunkedFile(job.input, job.format, job.columns, job.reading)
        features = file_features(job.input, job.format)
        self.format: OutputFormat = OUTPUT_FORMATS[job.output.suffix](
            self.predictor.tasks, job.options, job.keep, features
        )
        self.earlier = 0

    @cached_property
    def settings(self) -> JsonObject:
        """Everything the predictions depend on, except the batch size."""
        job = self.job
        return {
            "input": _describe_input(job.input),
            "model": _digest(self.model, self.tokenizer),
            "format": self.source.format,
            "columns": dict(job.columns or {}),
            **{name: value for name, value in asdict(job.reading).items() if value is not None},
            "keep": list(job.keep),
            **json.loads(json.dumps(asdict(job.options))),
        }

    def predict_share(self, state: PartialState, on_progress: OnProgress | None) -> int:
        """Predict this process's share of the chunks and return the number of chunks of the whole input."""
        done = self.folder.whole_parts()
        self.earlier = sum(self._num_rows(index) for index in done)
        prepare = ChunkPreparer(
            self.source, self.predictor.align, self.predictor.splits_words, self.job.keep, self.job.on_error == SKIP
        )
        items = prepared_chunks(prepare, done, state.process_index, state.num_processes, self.job.workers)
        first = next(items)
        # If any chunk is missing, the main process gets the first one.
        if state.is_main_process and isinstance(first, PreparedChunk):
            self._choose_limit(first)
        state.wait_for_everyone()
        limit = BatchLimit(*(self.folder.manifest() or {}).get("batch", (1, None)))
        count, rows = 0, self.earlier
        for item in chain([first], items):
            if isinstance(item, EndOfInput):
                count = item.chunks
                continue
            limit = self._predict(item, limit)
            rows += len(item.inputs) + len(item.skipped)
            if on_progress is not None:
                on_progress(rows, item.share)
        return count

    def finish(self, count: int) -> PredictionCounts:
        """Merge the parts of all processes into the output.

        Args:
            count: Number of parts.

        Returns:
            The counts of the whole input.

        Raises:
            ValueError: If the input has no rows.
        """
        self.folder.wait_for(count)
        predicted = skipped = 0
        for index in range(count):
            report = self.folder.report(index)
            predicted, skipped = predicted + report["predicted"], skipped + len(report["skipped"])
        if not predicted + skipped:
            raise ValueError(f"{self.job.input}: expected at least one row, found none.")
        parts = [self.folder.part_path(index) for index in range(count)]
        write_errors = partial(self._write_errors, count=count) if skipped else None
        self.folder.finish(
            [(self.job.errors_path, write_errors), (self.job.output, partial(self.format.merge, parts=parts))]
        )
        return PredictionCounts(predicted, skipped, self.earlier)

    def _choose_limit(self, first: PreparedChunk) -> None:
        """Write the limit of a batch for all processes, and for a run that resumes this one."""
        size = self.job.batch_size
        if size != AUTO:
            limit = limit_rows(int(size), self.predictor.align.max_length)
        elif self.folder.manifest() is None:
            limit = find_limit(self.predictor, first.inputs, first.rows)
        else:
            return
        self.folder.write_manifest({"settings": self.settings, "batch": limit})

    def _predict(self, chunk: PreparedChunk, limit: BatchLimit) -> BatchLimit:
        """Predict a chunk, write its part and return the limit that fitted into memory."""
        predictions, limit = predict_chunk(self.predictor, chunk.inputs, chunk.rows, limit)
        rows = [{**kept, **prediction} for kept, prediction in zip(chunk.kept, predictions, strict=True)]
        report: PartReport = {"predicted": len(rows), "skipped": chunk.skipped}
        self.folder.write_part(chunk.number, partial(self.format.write, rows=rows), report)
        return limit

    def _num_rows(self, index: int) -> int:
        report = self.folder.report(index)
        return report["predicted"] + len(report["skipped"])

    def _write_errors(self, file: BinaryIO, count: int) -> None:
        for index in range(count):
            skipped = self.folder.report(index)["skipped"]
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in skipped)


def _is_integer(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _describe_input(path: Path) -> list[list[str | int]]:
    """Return name, size and modification time of a file, or of all files of a folder, to detect changes."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _digest(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of config, tokenizer and weights, regardless of where they were loaded from."""
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    texts = [json.dumps(config, sort_keys=True, default=str), tokenizer.backend_tokenizer.to_str()]
    digest = hashlib.blake2b(json.dumps([*texts, tokenizer.model_max_length]).encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        add_tensor(digest, name, tensor)
    return digest.hexdigest()
