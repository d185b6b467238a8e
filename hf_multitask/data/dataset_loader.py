"""From what holds the rows of a dataset to words and label ids, checked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import datasets

from ..models.tags_schemes import from_iob2, to_iob2
from ..models.tasks import REGRESSION, TaskConfig
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.text_words import locate_words, split_words
from ..models.type_aliases import Row
from .config import DataConfig
from .labels.checks import check_columns, check_inputs, check_labels, read_values, words_of
from .labels.label_sets import LabelEncoder, LabelScan
from .labels.stratified_split import split_validation
from .labels.tags import read_tags
from .preparation_report import PreparationReport
from .readers.rows import LocatedRow, Rows, rename_row, unplaced, with_label_names
from .readers.sources import Source, class_names, open_rows, source_name
from .readers.spans import is_span_list, read_spans

TRAIN, VALIDATION = "train", "validation"
ROWS_AT_ONCE = 1000
# The split into train and validation is the same for every seed of a training, so that their scores compare.
SPLIT_SEED = 0


class DatasetLoader:
    """One dataset while its rows become words and label ids.

    Its steps, in order: the rows are read and checked when it is made; `scan` finds what the tasks leave open in
    train; with all tasks complete, `encode` turns rows into words and label ids.

    Args:
        config: Where the rows are and how they are read.
        tasks: All tasks of the model.
        streaming: Whether the training rows are read while they are used.
        name: What messages call it where the config has no name.

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
        self.sources = config.sources()
        self.rows: dict[str, Rows] = {}
        self.reports: dict[str, PreparationReport] = {}
        for split in self.sources:
            if not (streaming and split == TRAIN):
                self._read(split)

    def name_of(self, split: str) -> str:
        """Return what messages call a split."""
        source = self.sources[split]
        name = split if self.name is None else f"{self.name}, split {split}"
        return source_name(source, name)

    def open(self, split: str) -> Iterator[LocatedRow]:
        """Read the rows of a split one after the other, unchecked."""
        source: Source = self.sources[split]
        return open_rows(source, self.name_of(split), self.config.format, self.config.columns)

    def raw_train(self) -> datasets.IterableDataset:
        """Return the training rows as a stream whose place can be kept; `locate` makes rows of what it yields."""
        source = self.sources[TRAIN]
        if isinstance(source, datasets.IterableDataset):
            return source
        return datasets.IterableDataset.from_generator(self._located_train)

    def locate(self, raw: Row) -> LocatedRow:
        """Return the row that an item of `raw_train` holds."""
        source = self.sources[TRAIN]
        if not isinstance(source, datasets.IterableDataset):
            return LocatedRow(**raw)
        (row,) = with_label_names([raw], source.features)
        return unplaced(rename_row(row, self.config.columns))

    def _located_train(self) -> Iterator[Row]:
        for located in self.open(TRAIN):
            yield located._asdict()

    def chunks(self, split: str) -> Iterator[Rows]:
        """Read the rows of a split in parts, unchecked.

        Raises:
            ValueError: If there is none, or no row of the first part has the column of a task.
        """
        located, done = self.open(split), 0
        while rows := list(islice(located, ROWS_AT_ONCE)):
            chunk = Rows.collect(self.name_of(split), rows, range(done, done + len(rows)))
            if not done:
                check_columns(chunk, self.tasks)
            yield chunk
            done += len(rows)
        if not done:
            raise ValueError(f"{self.name_of(split)}: expected at least one row, found none.")

    def check(self, rows: Rows) -> PreparationReport:
        """Check rows, and turn spans into tags, texts into words and numerals into numbers, in place.

        Raises:
            ValueError: If something is wrong. The message names file and line.
        """
        report = PreparationReport(rows=len(rows.rows))
        check_inputs(rows)
        for task in self.tasks:
            if task.is_token_task:
                report.mismatched_spans[task.name] = self._read_spans(task, rows)
        if self.has_token_task:
            for row in rows.rows:
                if row.get(TOKENS_COLUMN) is None:
                    row[TOKENS_COLUMN] = [word.text for word in split_words(row[TEXT_COLUMN])]
            report.words = sum(len(row[TOKENS_COLUMN]) for row in rows.rows)
        read_values(rows, self.tasks)
        check_labels(rows, self.tasks)
        return report

    def inputs(self, rows: Rows) -> dict[str, list[Any]]:
        """Return what `Aligner` takes of checked rows: their words, and the second texts of pairs."""
        pairs = [row.get(TEXT_PAIR_COLUMN) for row in rows.rows]
        return {"words": [words_of(row) for row in rows.rows], TEXT_PAIR_COLUMN: pairs}

    def scan(self) -> dict[str, TaskConfig]:
        """Find the labels, problem types and tag schemes that tasks leave to the training rows.

        A stream is read once for that, unless its tasks leave nothing open.

        Returns:
            The completed tasks by name.

        Raises:
            ValueError: If something in the rows is wrong, or a task has no label in them.
        """
        if self.streaming and all(self._is_complete(task) for task in self.tasks):
            return {task.name: task for task in self.tasks}
        declared = class_names(self.sources[TRAIN], self.config.format, self.config.columns)
        scans = [LabelScan(task, self.schemes.get(task.name), declared.get(str(task.column))) for task in self.tasks]
        if self.streaming:
            report = self.reports[TRAIN] = PreparationReport()
            for chunk in self.chunks(TRAIN):
                report.add(self.check(chunk))
                for scan in scans:
                    scan.add(chunk)
        else:
            for scan in scans:
                scan.add(self.rows[TRAIN])
        completed = {scan.task.name: scan.complete(self.name_of(TRAIN)) for scan in scans}
        self.schemes |= {scan.task.name: scan.tag_scheme for scan in scans if scan.task.is_token_task}
        return completed

    def _is_complete(self, task: TaskConfig) -> bool:
        """Tell whether a task leaves nothing to the training rows."""
        if task.is_token_task:
            return task.labels is not None and self.schemes[task.name] is not None
        return task.problem_type == REGRESSION or (task.labels is not None and task.problem_type is not None)

    def recognize_schemes(self) -> None:
        """Recognise the tag schemes that are still open in all rows there are, where there is no train."""
        for task in self.tasks:
            if task.is_token_task and self.schemes[task.name] is None:
                scan = LabelScan(task)
                for rows in self.rows.values():
                    scan.add(rows)
                self.schemes[task.name] = scan.find_scheme()

    def encode(self, rows: Rows, tasks: Sequence[TaskConfig]) -> tuple[list[dict[str, Any]], PreparationReport]:
        """Turn the labels of checked rows into ids; their tags become IOB2, in place.

        Args:
            rows: The rows.
            tasks: All tasks of the model, complete.

        Returns:
            The labels of each row by task, and the counts of what broke a rule or has no label.

        Raises:
            ValueError: If a label is none of its task, or breaks the rule of its scheme and that is refused.
        """
        own = [task for task in tasks if task.name in {task.name for task in self.tasks}]
        report = PreparationReport()
        for task in own:
            if task.is_token_task:
                report.broken_tags[task.name] = read_tags(task, rows, str(self.schemes[task.name]))
        encoder = LabelEncoder(tasks, {task.name for task in own}, self.config.unseen_labels)
        labels, report.unseen_labels = encoder.encode(rows)
        missing = {task.name: [row.get(str(task.column)) is None for row in rows.rows] for task in own}
        report.unlabelled_rows = Counter({name: sum(rows) for name, rows in missing.items()})
        if len(own) == len(tasks):
            report.fully_labelled_rows = sum(not any(row) for row in zip(*missing.values(), strict=True))
        return labels, report

    def split_off_validation(self) -> None:
        """Make a share of the training rows validation, where the config asks for it; see `split_validation`."""
        share = self.config.validation_split
        if share is None:
            return
        rows = self.rows[TRAIN]
        labels = [self._labels_of(row) for row in rows.rows]
        parts = split_validation(labels, share, SPLIT_SEED)
        mismatched = self.reports[TRAIN].mismatched_spans
        self.sources[VALIDATION] = self.sources[TRAIN]
        for split, chosen in zip((TRAIN, VALIDATION), parts, strict=True):
            self.rows[split] = rows.take(chosen)
            self.reports[split] = PreparationReport(rows=len(chosen))
            if self.has_token_task:
                self.reports[split].words = sum(len(words_of(rows.rows[i])) for i in chosen)
        # They were counted in all rows, before the split.
        self.reports[TRAIN].mismatched_spans = mismatched

    def _labels_of(self, row: Row) -> set[str]:
        labels: set[str] = set()
        for task in self.tasks:
            value = row.get(str(task.column))
            if value is None or task.problem_type == REGRESSION or isinstance(value, float):
                continue
            if task.is_token_task:
                value = [tag for tag in value if tag is not None]
            labels |= {f"{task.name}:{label}" for label in (value if isinstance(value, list) else [value])}
        return labels

    def _read(self, split: str) -> None:
        rows = Rows.collect(self.name_of(split), self.open(split))
        if not rows.rows:
            raise ValueError(f"{rows.source}: expected at least one row, found none.")
        check_columns(rows, self.tasks)
        self.reports[split] = self.check(rows)
        self.rows[split] = rows

    def _read_spans(self, task: TaskConfig, rows: Rows) -> int:
        """Turn the spans of a token task into tags, and return how many of them do not fit the words."""
        column, mismatched = str(task.column), 0
        for i, row in enumerate(rows.rows):
            spans, text = row.get(column), row.get(TEXT_COLUMN)
            tokens = row.get(TOKENS_COLUMN)
            place = f"{rows.place(i)}: column {column!r}"
            # Words have tags, one each, so that an empty list is none of tags.
            if text is None or not is_span_list(spans, empty=True):
                if tokens is None and spans is not None:
                    raise ValueError(
                        f"{place}: expected spans of 'text', or tags and a column 'tokens', found {spans!r:.80}."
                    )
                continue
            words = split_words(text) if tokens is None else locate_words(tokens, text)
            tags, count = read_spans(text, words, spans, place, self.config.span_mismatch)
            scheme = self.schemes[task.name] or "IOB2"
            row[column] = from_iob2(tags, scheme)
            if to_iob2(row[column], scheme) != tags:
                raise ValueError(
                    f"{place}: two spans of one label stand side by side, which tag_scheme={scheme!r} can't tell "
                    "apart; leave out `tag_scheme`."
                )
            mismatched += count
        return mismatched
