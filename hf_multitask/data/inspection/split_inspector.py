"""Inspection of a split: counts of its rows, lengths, labels, broken tags and duplicates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from transformers.tokenization_utils_base import LARGE_INTEGER

from ...models.tags_schemes import first_broken_tag
from ...models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ...models.text_alignment import NO_POSITION, Aligner
from ...models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ...models.text_words import split_words
from ...models.type_aliases import Batch, Row
from ..dataset_loader import TRAIN, CheckedRows, DatasetLoader
from ..labels.class_balance import label_counts
from ..preparation_report import PreparationReport
from ..readers.rows import Rows
from .duplicates import Duplicates, RowKeys
from .lengths import Lengths

# Broken tags per task that are kept with their places.
MAX_BROKEN_SHOWN = 5
# No row is cut: `Aligner` reads a length above this number of transformers as none.
UNLIMITED = LARGE_INTEGER + 1
# Separator of the texts of a pair when rows are compared.
TEXTS_END = "\0"


@dataclass
class BrokenTagPlace:
    """First tag of a row that breaks the rule of its scheme.

    Args:
        place: File and line, or dataset and row.
        word: Index of the word in the row, from 0.
        text: The word.
        tag: Tag of the word.
        expected: Tag that the scheme expects.
    """

    place: str
    word: int
    text: str
    tag: str
    expected: str


@dataclass
class NumberSummary:
    """Summary of the numbers of a regression.

    Args:
        rows: Number of labeled rows.
        least: Minimum.
        mean: Mean.
        greatest: Maximum.
    """

    rows: int
    least: float
    mean: float
    greatest: float


@dataclass
class TaskInspection:
    """Labels of a task in a split.

    Args:
        labels: Count of each label, including unseen ones: in rows, or in words for a token task, whose tags are IOB2
            (so that ``B-x`` counts the entities of type ``x``).
        numbers: For a regression, a summary of each output.
        unlabelled_rows: Number of rows without a label.
        unseen_labels: Count of each label that does not occur in train, or is not in the task's ``labels``.
        broken_rows: For a token task, the number of rows with tags that break the rule of their scheme.
        broken_tags: The first broken tags.
        mismatched_spans: Number of spans that start or end inside a word.
        repeated_spans: Number of spans that repeat another span of their row.
        notes: Remarks on labels of train that are probably mistakes.
    """

    labels: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, NumberSummary] = field(default_factory=dict)
    unlabelled_rows: int = 0
    unseen_labels: dict[str, int] = field(default_factory=dict)
    broken_rows: int = 0
    broken_tags: list[BrokenTagPlace] = field(default_factory=list)
    mismatched_spans: int = 0
    repeated_spans: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class SplitInspection:
    """Rows of a split of one dataset.

    Args:
        source: Name of the file or dataset.
        rows: Number of rows.
        words: Number of words, including second texts.
        subwords: Number of subwords, without special tokens and before anything is cut.
        word_lengths: Number of words per row.
        subword_lengths: Number of subwords per row, including special tokens, before anything is cut.
        subwords_per_word: Mean number of subwords per word.
        unknown_subwords: Number of subwords that are the tokenizer's unknown token.
        unknown_share: Their share of the subwords.
        windowed_rows: Rows longer than the maximum length, cut into windows.
        windows: Number of windows of these rows.
        truncated_rows: Rows truncated to the maximum length, and pairs whose second text is truncated.
        cut_share: Share of the rows that are cut into windows or truncated.
        lost_words: Words without a subword, truncated or dropped by the tokenizer, if there are token tasks.
        empty_rows: Rows without any subword besides special tokens.
        repeated: Rows with the same words as an earlier row of the split; both texts of a pair count.
        also_in: By split, the rows with the same words as a row of that split, in any of the datasets.
        tasks: The labels by task.
    """

    source: str
    rows: int
    words: int
    subwords: int
    word_lengths: Lengths
    subword_lengths: Lengths
    subwords_per_word: float
    unknown_subwords: int
    unknown_share: float
    windowed_rows: int
    windows: int
    truncated_rows: int
    cut_share: float
    lost_words: int
    empty_rows: int
    repeated: Duplicates
    also_in: dict[str, Duplicates]
    tasks: dict[str, TaskInspection]


@dataclass
class RowSample:
    """A row with its subwords, as the model gets it.

    Args:
        place: File and line, or dataset and row.
        words: Words of the row; the whole text as one if it is not split.
        subwords: Subwords of each word.
        labels: Label by task; the tags of a token task are IOB2.
        text_pair: Second text of a pair.
        text_pair_subwords: Subwords of the second text.
    """

    place: str
    words: list[str]
    subwords: list[list[str]]
    labels: Row
    text_pair: str | None = None
    text_pair_subwords: list[str] = field(default_factory=list)


class SplitInspector:
    """Counter of what is in the rows of a split, which are added part by part.

    Args:
        loader: Loader of the dataset.
        split: The split.
        tasks: All tasks, with their labels.
        aligner: Aligner of the split, as a training uses it.
        num_samples: Number of rows to keep as samples.
    """

    def __init__(
        self, loader: DatasetLoader, split: str, tasks: Sequence[TaskConfig], aligner: Aligner, num_samples: int
    ) -> None:
        self.loader = loader
        self.split = split
        self.all_tasks = list(tasks)
        own = {task.name for task in loader.tasks}
        self.tasks = [task for task in tasks if task.name in own]
        self.aligner = aligner
        self.whole_aligner = Aligner(aligner.tokenizer, tasks, UNLIMITED, overlap=0)
        self.num_samples = num_samples
        self.report = PreparationReport()
        self.samples: list[RowSample] = []
        self.labels: dict[str, Counter[str]] = {task.name: Counter() for task in self.tasks}
        self.keys = RowKeys(task.name for task in tasks)
        self._word_lengths: Counter[int] = Counter()
        self._subword_lengths: Counter[int] = Counter()
        self._subwords = 0
        self._unknown = 0
        self._cut = 0
        self._broken: dict[str, list[BrokenTagPlace]] = {task.name: [] for task in self.tasks}
        self._numbers: dict[str, list[_NumberTotals]] = {
            task.name: [_NumberTotals() for _ in range(task.num_labels)]
            for task in self.tasks
            if task.problem_type == REGRESSION
        }

    def add(self, part: CheckedRows) -> None:
        """Prepare rows as a training does, and count what is in them.

        Args:
            part: The rows. Their tags become IOB2, in place.

        Raises:
            ValueError: If a label is wrong, see `DatasetLoader.encode`.
        """
        rows = part.rows
        tags = {task.name: [row.get(str(task.column)) for row in rows.rows] for task in self.tasks}
        inputs = self.loader.inputs(rows)
        whole = self.whole_aligner(inputs)
        limit = self.aligner.max_length
        num_cut = 0 if limit is None else sum(length > limit for length in whole["length"])
        # If no row is cut, the model gets them whole, and they need not be tokenized twice.
        self.loader.prepare(part, self.all_tasks, self.aligner if num_cut else lambda _: whole)
        self.report.add(part.report)
        self._cut += num_cut
        for task in self.tasks:
            self._add_labels(task, [row[task.name] for row in part.labels])
            if part.report.broken_tags[task.name]:
                self._add_broken(task, rows, tags[task.name])
        self._add_subwords(whole)
        self._add_words(rows, inputs)
        for i in range(min(self.num_samples - len(self.samples), len(rows.rows))):
            self._add_sample(rows, i, inputs["words"][i], inputs[TEXT_PAIR_COLUMN][i])

    def _add_labels(self, task: TaskConfig, labels: Sequence[Sequence[float]]) -> None:
        if task.problem_type == REGRESSION:
            for i, totals in enumerate(self._numbers[task.name]):
                totals.add([row[i] for row in labels])
        else:
            self.labels[task.name].update(label_counts(task, labels)[0])

    def _add_subwords(self, whole: Batch) -> None:
        unknown = self.aligner.tokenizer.unk_token_id
        self._subword_lengths.update(whole["length"])
        self._subwords += sum(whole["subwords"])
        self._unknown += sum(ids.count(unknown) for ids in whole["input_ids"])

    def _add_words(self, rows: Rows, inputs: Batch) -> None:
        self._word_lengths.update(map(_num_words, rows.rows))
        for row, words, pair in zip(rows.rows, inputs["words"], inputs[TEXT_PAIR_COLUMN], strict=True):
            texts = words if pair is None else [*words, TEXTS_END, pair]
            self.keys.add(texts, {task.name: _comparable(task, row.get(str(task.column))) for task in self.tasks})

    def result(self, others: Mapping[str, Sequence[RowKeys]], in_train: Mapping[str, Counter[str]]) -> SplitInspection:
        """Return the counts of all rows.

        Args:
            others: By split, the keys of rows that the rows of this split are compared with.
            in_train: By task, the count of each label in the training rows of all datasets.
        """
        report = self.report
        word_lengths, subword_lengths = Lengths.of(self._word_lengths), Lengths.of(self._subword_lengths)
        words, subwords = word_lengths.total, self._subwords
        return SplitInspection(
            source=self.loader.name_of(self.split),
            rows=report.rows,
            words=words,
            subwords=subwords,
            word_lengths=word_lengths,
            subword_lengths=subword_lengths,
            subwords_per_word=subwords / words,
            unknown_subwords=self._unknown,
            unknown_share=self._unknown / subwords if subwords else 0.0,
            windowed_rows=report.windowed_rows,
            windows=report.windows,
            truncated_rows=report.truncated_rows,
            cut_share=self._cut / report.rows,
            lost_words=report.lost_words,
            empty_rows=report.empty_rows,
            repeated=self.keys.repeated(),
            also_in={split: self.keys.also_in(keys) for split, keys in others.items()},
            tasks={task.name: self._task_result(task, in_train[task.name]) for task in self.tasks},
        )

    def _task_result(self, task: TaskConfig, in_train: Counter[str]) -> TaskInspection:
        unknown = self.report.unseen_labels[task.name]
        labels = self.labels[task.name]
        names = [] if task.problem_type == REGRESSION else task.labels or []
        return TaskInspection(
            labels={**{name: labels[name] for name in names}, **unknown},
            numbers=self._number_summaries(task),
            unlabelled_rows=self.report.unlabelled_rows[task.name],
            unseen_labels={**{name: labels[name] for name in names if labels[name] and not in_train[name]}, **unknown},
            broken_rows=self.report.broken_tags[task.name],
            broken_tags=self._broken[task.name],
            mismatched_spans=self.report.mismatched_spans[task.name],
            repeated_spans=self.report.repeated_spans[task.name],
            notes=self.loader.label_notes.get(task.name, []) if self.split == TRAIN else [],
        )

    def _number_summaries(self, task: TaskConfig) -> dict[str, NumberSummary]:
        outputs = self._numbers.get(task.name, [])
        names = task.labels or [task.name]
        return {
            name: NumberSummary(totals.rows, totals.minimum, totals.total / totals.rows, totals.maximum)
            for name, totals in zip(names, outputs, strict=False)
            if totals.rows
        }

    def _add_broken(self, task: TaskConfig, rows: Rows, tags: Sequence[list[str | None] | None]) -> None:
        """Keep the places of the first broken tags; ``tags`` are the tags of each row in their scheme."""
        places = self._broken[task.name]
        for i, row_tags in enumerate(tags):
            if len(places) == MAX_BROKEN_SHOWN:
                return
            broken = first_broken_tag(row_tags or [], str(self.loader.schemes[task.name]))
            if broken is not None:
                text = rows.rows[i][TOKENS_COLUMN][broken.word]
                places.append(
                    BrokenTagPlace(rows.place(i, broken.word), broken.word, text, broken.tag, broken.expected)
                )

    def _add_sample(self, rows: Rows, i: int, words: list[str], pair: str | None) -> None:
        labels = {task.name: rows.rows[i].get(str(task.column)) for task in self.tasks}
        pair_subwords = [] if pair is None else self._subwords_of([pair])[0]
        self.samples.append(RowSample(rows.place(i), words, self._subwords_of(words), labels, pair, pair_subwords))

    def _subwords_of(self, words: list[str]) -> list[list[str]]:
        """Return the subwords of each word of a text."""
        tokenizer = self.aligner.tokenizer
        row = {name: values[0] for name, values in self.whole_aligner({"words": [words]}).items()}
        # `list` because the method is typed to return a single token too.
        tokens = list(tokenizer.convert_ids_to_tokens(row["input_ids"]))
        positions = row.get("tag_positions", [])
        leading = len(list(takewhile(lambda word: word is None, tokenizer("a").word_ids())))
        trailing = self.aligner.special_tokens - leading
        starts = {position: word for word, position in enumerate(positions) if position != NO_POSITION}
        subwords: list[list[str]] = [[] for _ in words]
        word = 0
        for position in range(leading, len(tokens) - trailing):
            word = starts.get(position, word)
            subwords[word].append(tokens[position])
        return subwords


@dataclass
class _NumberTotals:
    rows: int = 0
    total: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, numbers: Sequence[float]) -> None:
        """Add numbers; NaN is a missing one."""
        present = [number for number in numbers if number == number]
        self.rows += len(present)
        self.total += sum(present)
        self.minimum = min([self.minimum, *present])
        self.maximum = max([self.maximum, *present])


def _num_words(row: Row) -> int:
    """Return the number of words of a row and its second text, even if the model gets the text unsplit."""
    pair_words = split_words(row.get(TEXT_PAIR_COLUMN) or "")
    return len(row.get(TOKENS_COLUMN) or split_words(row[TEXT_COLUMN])) + len(pair_words)


def _comparable(task: TaskConfig, value: str | float | list[str | float] | None) -> object:
    """Return a label in a form that is equal for equal labels, whatever the file format."""
    if value is None or task.is_token_task:
        return value
    items = value if isinstance(value, list) else [value]
    if task.problem_type == REGRESSION:
        return [float(number) for number in items]
    return sorted(map(str, items)) if task.problem_type == MULTI_LABEL else str(value)
