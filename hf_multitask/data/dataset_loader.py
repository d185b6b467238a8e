"""Loading of one dataset: rows are read, checked, given label ids, and tokenized."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

import datasets

from ..models.tags_schemes import from_iob2, to_iob2
from ..models.tasks import REGRESSION, TaskConfig
from ..models.text_alignment import TAG_WORDS_COLUMN, Aligner
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.text_words import join_words, locate_words, split_words
from ..models.type_aliases import Batch, Row
from .config import DataConfig
from .labels.checks import check_columns, check_inputs, check_labels, words_of
from .labels.label_sets import LabelEncoder, LabelScan
from .labels.stratified_split import split_validation
from .labels.tags import read_tags
from .labels.unseen_labels import SCOPE_COLUMN, is_out_of_scope
from .labels.values import read_tag_cells, read_values
from .preparation_report import PreparationReport
from .readers.cell_rows import NO_HEADER_HINT
from .readers.rows import LocatedRow, Rows, rename_row, unplaced, with_label_names
from .readers.sources import class_names, is_table_file, open_rows, source_name
from .readers.spans import distinct_spans, is_span_list, read_spans
from .readers.word_spans import WORD_UNITS, WORDS_INCLUSIVE, character_spans, refuse_word_offsets
from .tokenization import tokenize

logger = logging.getLogger(__name__)

TRAIN, VALIDATION = "train", "validation"
ROWS_AT_ONCE = 1000
# Columns of a row that are not labels.
INPUT_COLUMNS = (TEXT_COLUMN, TOKENS_COLUMN, TEXT_PAIR_COLUMN)
# Columns of `Aligner` that only the report needs.
COUNTED_COLUMNS = ("subwords", "truncated", "lost_words")
# The split into train and validation does not depend on the seed of a training, so that scores are comparable.
SPLIT_SEED = 0

_Columns = TypeVar("_Columns", Batch, datasets.Dataset)


@dataclass
class CheckedRows:
    """Checked rows of a split, with everything that is known about them.

    Args:
        rows: The rows.
        report: Counts of what happened to the rows so far.
        labels: Label ids of each row by task; empty before `DatasetLoader.encode`.
    """

    rows: Rows
    report: PreparationReport
    labels: list[Row] = field(default_factory=list)


class DatasetLoader:
    """Loader of one dataset.

    The constructor reads and checks all splits that are not streamed. `scan` completes the tasks from the training
    rows. With complete tasks, `prepare` turns checked rows into the model's inputs.

    Args:
        config: Source of the rows and reading options.
        tasks: All tasks of the model.
        streaming: Whether to read the training rows during training.
        name: Name in messages if the config has none.

    Raises:
        ValueError: If something in the rows is wrong. The message names file and line.
    """

    def __init__(
        self, config: DataConfig, tasks: Sequence[TaskConfig], streaming: bool = False, name: str | None = None
    ) -> None:
        self.config = config
        self.name = config.name or name
        self.streaming = streaming
        names = [task.name for task in tasks] if config.tasks is None else config.tasks
        self.tasks = [task for task in tasks if task.name in names]
        self.has_token_task = any(task.is_token_task for task in tasks)
        self.schemes: dict[str, str | None] = {
            task.name: config.tag_scheme or task.tag_scheme for task in self.tasks if task.is_token_task
        }
        # By token task, the tag that stands for `O`, if the rows show one.
        self.outside_tags: dict[str, str | None] = {}
        self.label_notes: dict[str, list[str]] = {}
        self.sources = config.sources()
        self.splits: dict[str, CheckedRows] = {}
        self._check_scope()
        for split in self.sources:
            if not (streaming and split == TRAIN):
                self._read(split)

    def name_of(self, split: str) -> str:
        """Return the name of a split in messages."""
        name = split if self.name is None else f"{self.name}, split {split}"
        return source_name(self.sources[split], name)

    def open(self, split: str) -> Iterator[LocatedRow]:
        """Read the rows of a split one by one, unchecked."""
        config = self.config
        return open_rows(
            self.sources[split], self.name_of(split), config.format, config.columns, config.reading_options()
        )

    def raw_train(self) -> datasets.IterableDataset:
        """Return the training rows as a stream with a state; `locate` converts its items to rows."""
        source = self.sources[TRAIN]
        if isinstance(source, datasets.IterableDataset):
            return source
        return datasets.IterableDataset.from_generator(self._located_train)

    def locate(self, raw: Row) -> LocatedRow:
        """Return the row of an item of `raw_train`."""
        source = self.sources[TRAIN]
        if not isinstance(source, datasets.IterableDataset):
            return LocatedRow(**raw)
        (row,) = with_label_names([raw], source.features)
        return unplaced(rename_row(row, self.config.columns))

    def _located_train(self) -> Iterator[Row]:
        for located in self.open(TRAIN):
            yield located._asdict()

    def parts(self, split: str) -> Iterator[CheckedRows]:
        """Yield the checked rows of a split, `ROWS_AT_ONCE` at a time; a stream is read for it.

        Raises:
            ValueError: If a stream has no rows, or something in its rows is wrong.
        """
        if split not in self.splits:
            yield from map(self.check, self._chunks(split))
            return
        rows, report = self.splits[split].rows, PreparationReport()
        # All rows were counted together, so that the first part has the counts of all.
        report.add(self.splits[split].report)
        for start in range(0, len(rows.rows), ROWS_AT_ONCE):
            yield CheckedRows(rows.take(range(start, min(start + ROWS_AT_ONCE, len(rows.rows)))), report)
            report = PreparationReport()

    def check(self, rows: Rows) -> CheckedRows:
        """Check rows, and turn spans into tags, texts into words and numerals into numbers, in place.

        Raises:
            ValueError: If something is wrong. The message names file and line.
        """
        report = PreparationReport(rows=len(rows.rows))
        check_inputs(rows)
        options = self.config.label_options()
        for task in self.tasks:
            if task.is_token_task:
                read_tag_cells(rows, task, options)
                self._read_spans(task, rows, report)
        if self.has_token_task:
            for row in rows.rows:
                if row.get(TOKENS_COLUMN) is None:
                    row[TOKENS_COLUMN] = [word.text for word in split_words(row[TEXT_COLUMN])]
            report.words = sum(len(row[TOKENS_COLUMN]) for row in rows.rows)
        read_values(rows, self.tasks, options)
        check_labels(rows, self.tasks)
        return CheckedRows(rows, report)

    def inputs(self, rows: Rows) -> Batch:
        """Return the columns of checked rows that `Aligner` takes: words, and the second texts of pairs."""
        pairs = [row.get(TEXT_PAIR_COLUMN) for row in rows.rows]
        return {"words": [words_of(row) for row in rows.rows], TEXT_PAIR_COLUMN: pairs}

    def scan(self) -> dict[str, TaskConfig]:
        """Find the labels, problem types and tag schemes of tasks that do not name them, in the training rows.

        A stream is read once for this, unless its tasks are complete.

        Returns:
            The completed tasks by name.

        Raises:
            ValueError: If something in the rows is wrong, or a task has no label in them.
        """
        if self.streaming and all(self._is_complete(task) for task in self.tasks):
            return {task.name: task for task in self.tasks}
        declared = class_names(self.sources[TRAIN], self.config.format, self.config.columns)
        scans = [
            LabelScan(
                task, self.schemes.get(task.name), declared.get(str(task.column)), self.config.outside_tag is not None
            )
            for task in self.tasks
        ]
        for part in self.parts(TRAIN) if self.streaming else [self.splits[TRAIN]]:
            for scan in scans:
                scan.add(part.rows)
        completed = {scan.task.name: scan.complete(self.name_of(TRAIN)) for scan in scans}
        self.schemes |= {scan.task.name: scan.tag_scheme for scan in scans if scan.task.is_token_task}
        self.outside_tags |= {scan.task.name: scan.outside for scan in scans}
        self.label_notes = {scan.task.name: scan.notes() for scan in scans}
        return completed

    def remarks(self) -> list[str]:
        """Return a line for each remark on the labels of train; see `label_notes`."""
        name = self.name_of(TRAIN) if self.label_notes else ""
        return [f"{name}: task {task!r}: {note}." for task, notes in self.label_notes.items() for note in notes]

    def _is_complete(self, task: TaskConfig) -> bool:
        """Return whether a task needs nothing from the training rows."""
        if task.is_token_task:
            return task.labels is not None and self.schemes[task.name] is not None
        return task.problem_type == REGRESSION or (task.labels is not None and task.problem_type is not None)

    def recognize_schemes(self) -> None:
        """Recognize missing tag schemes from the rows of all splits, for a dataset without train."""
        for task in self.tasks:
            if task.is_token_task and self.schemes[task.name] is None:
                scan = LabelScan(task, has_outside=self.config.outside_tag is not None)
                for part in self.splits.values():
                    scan.add(part.rows)
                self.schemes[task.name] = scan.find_scheme(self.name_of(next(iter(self.splits))))
                self.outside_tags[task.name] = scan.outside

    def encode(self, part: CheckedRows, tasks: Sequence[TaskConfig], keeps_outliers: bool = False) -> None:
        """Add the label ids of checked rows, and count broken tags and missing labels; tags become IOB2, in place.

        Args:
            part: The rows.
            tasks: All tasks of the model, complete.
            keeps_outliers: Whether rows out of scope are marked where the loss of a training counts them.

        Raises:
            ValueError: If a label is not in the label set of its task, or tags break the rule of their scheme and
                the task does not allow it.
        """
        rows, report = part.rows, part.report
        own = [task for task in tasks if task.name in {task.name for task in self.tasks}]
        for task in own:
            if task.is_token_task:
                report.broken_tags[task.name] = read_tags(
                    task, rows, str(self.schemes[task.name]), self.outside_tags.get(task.name)
                )
        encoder = self._label_encoder(tasks, keeps_outliers=keeps_outliers)
        part.labels, report.unseen_labels = encoder.encode(rows)
        outside = {task.name: sum(is_out_of_scope(task, row) for row in rows.rows) for task in own if task.has_scope}
        report.out_of_scope = Counter(outside)
        missing = {
            task.name: [
                row.get(str(task.column)) is None and not (SCOPE_COLUMN in row and task.has_scope) for row in rows.rows
            ]
            for task in own
        }
        report.unlabelled_rows = Counter({name: sum(rows) for name, rows in missing.items()})
        if len(own) == len(tasks):
            report.fully_labelled_rows = sum(not any(row) for row in zip(*missing.values(), strict=True))

    def _label_encoder(
        self, tasks: Sequence[TaskConfig], keeps_unseen: bool = False, keeps_outliers: bool = False
    ) -> LabelEncoder:
        names = {task.name for task in self.tasks}
        labeled = {task.name for task in tasks if task.name in names}
        return LabelEncoder(tasks, labeled, self.config.unseen_labels, keeps_unseen, keeps_outliers)

    def prepare(self, part: CheckedRows, tasks: Sequence[TaskConfig], align: Callable[[Batch], _Columns]) -> _Columns:
        """Turn checked rows into the model's inputs, and count what was cut or lost.

        Whole splits, streams and inspections all use this method.

        Args:
            part: The rows. Their labels are encoded if they are not yet.
            tasks: All tasks of the model, complete.
            align: An `Aligner`, or a function that takes and returns the same columns.

        Returns:
            The result of ``align``.

        Raises:
            ValueError: If a label is wrong, see `encode`.
        """
        if not part.labels:
            self.encode(part, tasks)
        columns = align({**self.inputs(part.rows), "labels": part.labels})
        part.report.add_tokenized(_counted(columns))
        return columns

    def prepare_split(
        self, split: str, tasks: Sequence[TaskConfig], aligner: Aligner, keep_tag_words: bool = False
    ) -> datasets.Dataset:
        """Prepare a split that is not streamed, or take it from the cache, and log what was cut or lost.

        In validation and test, labels that their task does not have get ids, so that metrics count them as wrong. Rows
        out of scope are marked, in train if the loss counts them.
        """
        part, name = self.splits[split], self.name_of(split)
        is_train, is_marked = split == TRAIN, any(part.report.out_of_scope.values())
        if is_marked or (not is_train and any(part.report.unseen_labels.values())):
            encoder = self._label_encoder(tasks, keeps_unseen=not is_train, keeps_outliers=True)
            part.labels, _ = encoder.encode(part.rows)
        for task in (task for task in tasks if part.report.out_of_scope[task.name]):
            use = (
                f", with a loss of weight {task.outlier_weight:g}" if task.outlier_weight else ", which no loss counts"
            )
            count = part.report.out_of_scope[task.name]
            text = "%s: %d rows are out of scope of task %r%s."
            logger.info(text, name, count, task.name, use if is_train else "")
        align = partial(tokenize, tasks=tasks, aligner=aligner, num_proc=self.config.num_proc, name=name)
        dataset = self.prepare(part, tasks, align)
        for line in part.report.losses():
            logger.warning("%s: %s.", name, line)
        return _without_counts(dataset, keep_tag_words)

    def align(self, split: str, tasks: Sequence[TaskConfig], aligner: Aligner) -> datasets.Dataset:
        """Tokenize the encoded rows of a split once more, for another aligner, without counting anything again."""
        part = self.splits[split]
        batch = {**self.inputs(part.rows), "labels": part.labels}
        return _without_counts(tokenize(batch, tasks, aligner, self.config.num_proc, self.name_of(split)))

    def split_off_validation(self) -> None:
        """Move a share of the training rows to validation if the config asks for it; see `split_validation`."""
        share = self.config.validation_split
        if share is None:
            return
        train = self.splits[TRAIN]
        rows = train.rows
        chosen = split_validation([self._labels_of(row) for row in rows.rows], share, SPLIT_SEED)
        self.sources[VALIDATION] = self.sources[TRAIN]
        for split, numbers in zip((TRAIN, VALIDATION), chosen, strict=True):
            report = PreparationReport(rows=len(numbers))
            if self.has_token_task:
                report.words = sum(len(words_of(rows.rows[i])) for i in numbers)
            self.splits[split] = CheckedRows(rows.take(numbers), report)
        # Spans were counted before the split and cannot be assigned to either of the two.
        self.splits[TRAIN].report.mismatched_spans = train.report.mismatched_spans
        self.splits[TRAIN].report.repeated_spans = train.report.repeated_spans

    def _labels_of(self, row: Row) -> set[str]:
        labels: set[str] = set()
        for task in self.tasks:
            value = row.get(str(task.column))
            if value is None or task.problem_type == REGRESSION or isinstance(value, float):
                continue
            if task.is_token_task:
                value = [tag for tag in value if tag is not None]
            labels |= {f"{task.name}:{label}" for label in (value if isinstance(value, list) else [value])}
        return labels | {SCOPE_COLUMN} if SCOPE_COLUMN in row else labels

    def _read(self, split: str) -> None:
        rows = Rows.collect(self.name_of(split), self.open(split))
        if not rows.rows:
            raise ValueError(f"{rows.source}: expected at least one row, found none.")
        check_columns(rows, self.tasks, self._column_hint(split))
        self.splits[split] = self.check(rows)
        if split in self.config.out_of_scope_sources():
            self._add_out_of_scope(split)

    def _check_scope(self) -> None:
        """Raise if no task abstains from rows out of scope, or one needs rows of train that are streamed."""
        if self.config.out_of_scope_sources() and not any(task.has_scope for task in self.tasks):
            raise ValueError(
                "data.out_of_scope: no task of these rows abstains; give a task with one label per text `abstain`, "
                "such as {method: energy}."
            )
        by_states = [task.name for task in self.tasks if task.abstention is not None and task.abstention.reads_states]
        if by_states and self.streaming:
            raise ValueError(
                f"task {by_states[0]!r}: abstain: distances to training texts need all rows of train: leave out "
                "streaming, or choose the method energy or max_softmax."
            )

    def _add_out_of_scope(self, split: str) -> None:
        """Add the rows out of scope to a split. They have a text, and no label of any task."""
        config, source = self.config, self.config.out_of_scope_sources()[split]
        name = source_name(source, f"{self.name_of(split)}, out of scope")
        columns = {ours: theirs for ours, theirs in config.columns.items() if ours in INPUT_COLUMNS}
        located = open_rows(source, name, None, columns, config.reading_options())
        rows = Rows.collect(name, located)
        if not rows.rows:
            raise ValueError(f"{rows.source}: expected at least one row, found none.")
        texts = [{key: row[key] for key in INPUT_COLUMNS if key in row} for row in rows.rows]
        rows.rows = [{**text, SCOPE_COLUMN: True} for text in texts]
        part, added = self.splits[split], self.check(rows)
        part.rows.extend(added.rows)
        part.report.add(added.report)

    def _chunks(self, split: str) -> Iterator[Rows]:
        """Read the rows of a split, `ROWS_AT_ONCE` at a time, unchecked except for the columns."""
        located, done = self.open(split), 0
        while rows := list(islice(located, ROWS_AT_ONCE)):
            chunk = Rows.collect(self.name_of(split), rows, range(done, done + len(rows)))
            if not done:
                check_columns(chunk, self.tasks, self._column_hint(split))
            yield chunk
            done += len(rows)
        if not done:
            raise ValueError(f"{self.name_of(split)}: expected at least one row, found none.")

    def _spans_of_characters(
        self, tokens: list[str] | None, spans: Sequence[object], place: str
    ) -> tuple[str, list[str], list[Row]]:
        """Return a text of the words, the words, and spans of characters for spans of words."""
        if tokens is None:
            raise ValueError(f"{place}: span_unit={self.config.span_unit!r} needs the words, in a column 'tokens'.")
        text, words = join_words(tokens)
        return text, tokens, character_spans(words, spans, place, self.config.span_unit == WORDS_INCLUSIVE)

    def _column_hint(self, split: str) -> str:
        is_table = self.config.header is None and is_table_file(self.sources[split], self.config.format)
        return f" {NO_HEADER_HINT}" if is_table else ""

    def _read_spans(self, task: TaskConfig, rows: Rows, report: PreparationReport) -> None:
        """Turn the spans of a token task into tags, and count the spans that do not fit the words or are repeated."""
        column, mismatched, repeated = str(task.column), 0, 0
        if self.config.span_unit is None:
            refuse_word_offsets(rows, column)
        for i, row in enumerate(rows.rows):
            spans, text = row.get(column), row.get(TEXT_COLUMN)
            tokens = row.get(TOKENS_COLUMN)
            place = f"{rows.place(i)}: column {column!r}"
            if self.config.span_unit in WORD_UNITS and is_span_list(spans, empty=True):
                text, tokens, spans = self._spans_of_characters(tokens, spans, place)
            # Every row has at least one word, so that an empty list is a list of spans and not of tags.
            if text is None or not is_span_list(spans, empty=True):
                if tokens is None and spans is not None:
                    raise ValueError(
                        f"{place}: expected spans of 'text', or tags and a column 'tokens', found {spans!r:.80}."
                    )
                continue
            words = split_words(text) if tokens is None else locate_words(tokens, text)
            distinct = distinct_spans(spans)
            tags, count = read_spans(text, words, distinct, place, self.config.span_mismatch)
            scheme = self.schemes[task.name] or "IOB2"
            row[column] = from_iob2(tags, scheme)
            if to_iob2(row[column], scheme) != tags:
                raise ValueError(
                    f"{place}: two spans of one label are adjacent, which tag_scheme={scheme!r} can't tell apart; "
                    "leave out `tag_scheme`."
                )
            mismatched += count
            repeated += len(spans) - len(distinct)
        report.mismatched_spans[task.name] = mismatched
        report.repeated_spans[task.name] = repeated


def _without_counts(dataset: datasets.Dataset, keep_tag_words: bool = False) -> datasets.Dataset:
    unneeded = [*COUNTED_COLUMNS, *([] if keep_tag_words else [TAG_WORDS_COLUMN])]
    return dataset.remove_columns([column for column in unneeded if column in dataset.column_names])


def _counted(columns: Batch | datasets.Dataset) -> Batch:
    """Return the columns of aligned rows that a report counts."""
    names = columns.column_names if isinstance(columns, datasets.Dataset) else list(columns)
    return {name: columns[name][:] for name in (*COUNTED_COLUMNS, "window_lengths") if name in names}
