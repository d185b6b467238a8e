"""What is in the rows of a split: lengths, labels, what is broken, what occurs twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from ...models.tags_schemes import first_broken_tag
from ...models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ...models.text_alignment import NO_POSITION, Aligner
from ...models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ...models.text_words import split_words
from ...models.type_aliases import Row
from ..dataset_loader import DatasetLoader
from ..labels.class_balance import label_counts
from ..preparation_report import PreparationReport
from ..readers.rows import Rows
from .duplicates import Duplicates, RowKeys
from .lengths import Lengths

# Broken tags of a task that are kept with their places.
MAX_BROKEN_SHOWN = 5
# Beyond any row: one that is not cut has its own length.
UNLIMITED = 2**31
# Parts the texts of a pair where rows are compared.
TEXTS_END = "\0"


@dataclass
class BrokenTagPlace:
    """A tag that breaks the rule of its scheme, the first of its row.

    Args:
        place: File and line, or dataset and row.
        word: Which word of the row, from 0.
        text: The word.
        tag: Its tag.
        expected: The tag that the scheme has for it.
    """

    place: str
    word: int
    text: str
    tag: str
    expected: str


@dataclass
class NumberSummary:
    """The numbers of a regression.

    Args:
        rows: Number of labelled rows.
        least: Least number.
        mean: Mean.
        greatest: Greatest number.
    """

    rows: int
    least: float
    mean: float
    greatest: float


@dataclass
class TaskInspection:
    """The labels of a task in a split.

    Args:
        labels: How often each label occurs, unseen ones too: in rows, or in words for a token task, whose tags are
            IOB2 (so that ``B-x`` counts the entities of type ``x``).
        numbers: For a regression, a summary of each of its outputs.
        unlabelled_rows: Rows without a label.
        unseen_labels: How often each label occurs that train never has, or that the task's ``labels`` do not name.
        broken_rows: For a token task, rows whose tags break the rule of their scheme.
        broken_tags: The first of them.
        mismatched_spans: Spans that start or end inside a word.
    """

    labels: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, NumberSummary] = field(default_factory=dict)
    unlabelled_rows: int = 0
    unseen_labels: dict[str, int] = field(default_factory=dict)
    broken_rows: int = 0
    broken_tags: list[BrokenTagPlace] = field(default_factory=list)
    mismatched_spans: int = 0


@dataclass
class SplitInspection:
    """The rows of a split of one dataset.

    Args:
        source: The file or dataset that holds them.
        rows: Number of rows.
        words: Number of words, those of second texts too.
        subwords: Number of subwords, without special tokens and before anything is cut.
        word_lengths: How many words the rows have.
        subword_lengths: How many subwords they have, special tokens included, before anything is cut.
        subwords_per_word: Mean number of subwords of a word.
        unknown_subwords: Subwords that are the tokenizer's unknown token.
        unknown_share: Their share of the subwords.
        windowed_rows: Rows longer than the longest length, cut into windows.
        windows: Number of their windows.
        truncated_rows: Rows cut off at the longest length, and pairs whose second text is.
        cut_share: Share of rows that are cut into windows or cut off.
        lost_words: Words without a subword, cut off or dropped by the tokenizer, where there are token tasks.
        empty_rows: Rows without a single subword but special tokens.
        repeated: Rows whose words, both texts of a pair, stand in an earlier row of the split.
        also_in: By split, the rows whose words stand there too, in any of the datasets.
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
    """A row as the model gets it.

    Args:
        place: File and line, or dataset and row.
        words: Its words; its text alone where that is not split.
        subwords: The subwords of each word.
        labels: Its label by task; the tags of a token task are IOB2.
        text_pair: The second text of a pair.
        text_pair_subwords: The subwords of that.
    """

    place: str
    words: list[str]
    subwords: list[list[str]]
    labels: dict[str, Any]
    text_pair: str | None = None
    text_pair_subwords: list[str] = field(default_factory=list)


class SplitInspector:
    """Counts what is in the rows of a split, which come in parts.

    Args:
        data_set: Their dataset.
        split: The split.
        tasks: All tasks, with their labels.
        aligner: What tokenizes the rows for the model.
        num_samples: Number of rows to keep.
    """

    def __init__(
        self, data_set: DatasetLoader, split: str, tasks: Sequence[TaskConfig], aligner: Aligner, num_samples: int
    ) -> None:
        self.data_set = data_set
        self.split = split
        self.all_tasks = list(tasks)
        own = {task.name for task in data_set.tasks}
        self.tasks = [task for task in tasks if task.name in own]
        self.aligner = aligner
        self.whole = Aligner(aligner.tokenizer, tasks, UNLIMITED, overlap=0)
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
        self._numbers: dict[str, list[_Numbers]] = {
            task.name: [_Numbers() for _ in range(task.num_labels)]
            for task in self.tasks
            if task.problem_type == REGRESSION
        }

    def add(self, rows: Rows) -> None:
        """Take checked rows."""
        written = {task.name: [row.get(str(task.column)) for row in rows.rows] for task in self.tasks}
        labels, counted = self.data_set.encode(rows, self.all_tasks)
        self.report.add(counted)
        for task in self.tasks:
            encoded = [row[task.name] for row in labels]
            if task.problem_type == REGRESSION:
                for i, number in enumerate(self._numbers[task.name]):
                    number.add([row[i] for row in encoded])
            else:
                self.labels[task.name].update(label_counts(task, encoded)[0])
            if counted.broken_tags[task.name]:
                self._add_broken(task, rows, written[task.name])
        inputs = self.data_set.inputs(rows)
        whole = self.whole(inputs)
        limit = self.aligner.max_length
        cut = 0 if limit is None else sum(length > limit for length in whole["length"])
        self._cut += cut
        # Where no row is cut, the model gets them whole, and they need not be tokenized twice.
        columns = self.aligner({**inputs, "labels": labels}) if cut else whole
        self.report.add_tokenised(columns)
        self._word_lengths.update(map(_num_words, rows.rows))
        self._subword_lengths.update(whole["length"])
        self._subwords += sum(whole["subwords"])
        unknown = self.aligner.tokenizer.unk_token_id
        self._unknown += sum(ids.count(unknown) for ids in whole["input_ids"])
        for row, words, pair in zip(rows.rows, inputs["words"], inputs[TEXT_PAIR_COLUMN], strict=True):
            texts = words if pair is None else [*words, TEXTS_END, pair]
            self.keys.add(texts, {task.name: _comparable(task, row.get(str(task.column))) for task in self.tasks})
        for i in range(min(self.num_samples - len(self.samples), len(rows.rows))):
            self._add_sample(rows, i, inputs["words"][i], inputs[TEXT_PAIR_COLUMN][i])

    def result(self, others: Mapping[str, Sequence[RowKeys]], in_train: Mapping[str, Counter[str]]) -> SplitInspection:
        """Return what is in the rows.

        Args:
            others: By split, the keys of rows to look for this split's in.
            in_train: By task, how often each label occurs in the training rows of all datasets.
        """
        report = self.report
        word_lengths, subword_lengths = Lengths.of(self._word_lengths), Lengths.of(self._subword_lengths)
        words, subwords = word_lengths.total, self._subwords
        return SplitInspection(
            source=self.data_set.name_of(self.split),
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
        )

    def _number_summaries(self, task: TaskConfig) -> dict[str, NumberSummary]:
        counts = self._numbers.get(task.name, [])
        names = task.labels or [task.name]
        return {
            name: NumberSummary(count.rows, count.least, count.total / count.rows, count.greatest)
            for name, count in zip(names, counts, strict=False)
            if count.rows
        }

    def _add_broken(self, task: TaskConfig, rows: Rows, written: Sequence[Any]) -> None:
        """Keep the places of the first broken tags; ``written`` are the tags as the rows had them."""
        found = self._broken[task.name]
        for i, tags in enumerate(written):
            if len(found) == MAX_BROKEN_SHOWN:
                return
            broken = first_broken_tag(tags or [], str(self.data_set.schemes[task.name]))
            if broken is not None:
                text = rows.rows[i][TOKENS_COLUMN][broken.word]
                found.append(
                    BrokenTagPlace(rows.place(i, broken.word), broken.word, text, broken.tag, broken.expected)
                )

    def _add_sample(self, rows: Rows, i: int, words: list[str], pair: str | None) -> None:
        labels = {task.name: rows.rows[i].get(str(task.column)) for task in self.tasks}
        of_pair = [] if pair is None else self._subwords_of([pair])[0]
        self.samples.append(RowSample(rows.place(i), words, self._subwords_of(words), labels, pair, of_pair))

    def _subwords_of(self, words: list[str]) -> list[list[str]]:
        """Return the subwords of each word of a text."""
        tokenizer = self.aligner.tokenizer
        row = {name: values[0] for name, values in self.whole({"words": [words]}).items()}
        ids, positions = row["input_ids"], row.get("tag_positions", [])
        leading = len(list(takewhile(lambda word: word is None, tokenizer("a").word_ids())))
        trailing = self.aligner.special_tokens - leading
        starts = {position: word for word, position in enumerate(positions) if position != NO_POSITION}
        subwords: list[list[str]] = [[] for _ in words]
        word = 0
        for place in range(leading, len(ids) - trailing):
            word = starts.get(place, word)
            subwords[word].append(tokenizer.convert_ids_to_tokens(ids[place]))
        return subwords


@dataclass
class _Numbers:
    rows: int = 0
    total: float = 0.0
    least: float = float("inf")
    greatest: float = float("-inf")

    def add(self, numbers: Sequence[float]) -> None:
        """Take numbers; NaN stands for none."""
        present = [number for number in numbers if number == number]
        self.rows += len(present)
        self.total += sum(present)
        self.least = min([self.least, *present])
        self.greatest = max([self.greatest, *present])


def _num_words(row: Row) -> int:
    """Return the number of a row's words, also where it is one text to the model, and of its second text."""
    of_pair = split_words(row.get(TEXT_PAIR_COLUMN) or "")
    return len(row.get(TOKENS_COLUMN) or split_words(row[TEXT_COLUMN])) + len(of_pair)


def _comparable(task: TaskConfig, value: Any) -> Any:
    """Return a label in a form that is equal for equal labels, however files write it."""
    if value is None or task.is_token_task:
        return value
    if task.problem_type == REGRESSION:
        return [float(number) for number in (value if isinstance(value, list) else [value])]
    return sorted(map(str, value)) if task.problem_type == MULTI_LABEL else str(value)
