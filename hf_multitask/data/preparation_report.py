"""What became of the rows of a split: nothing is lost or dropped without a count."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.messages import MAX_NAMES_SHOWN


@dataclass
class PreparationReport:
    """What became of the rows of a split.

    Args:
        rows: Number of rows.
        words: Number of words, where there are token tasks.
        windowed_rows: Rows longer than the longest length, cut into windows.
        windows: Number of their windows.
        truncated_rows: Rows cut off at the longest length, and pairs whose second text is.
        lost_words: Words without a subword, cut off or dropped by the tokenizer: predicted as ``O`` and scored.
        empty_rows: Rows without a single subword but special tokens.
        unlabelled_rows: By task, the rows without a label.
        fully_labelled_rows: Rows with a label for every task.
        unseen_labels: By task, how often each label occurs that the task does not have.
        broken_tags: By token task, the rows whose tags break the rule of their scheme.
        mismatched_spans: By token task, the spans that start or end inside a word, widened to it or dropped.
    """

    rows: int = 0
    words: int = 0
    windowed_rows: int = 0
    windows: int = 0
    truncated_rows: int = 0
    lost_words: int = 0
    empty_rows: int = 0
    unlabelled_rows: Counter = field(default_factory=Counter)
    fully_labelled_rows: int = 0
    unseen_labels: dict[str, Counter] = field(default_factory=dict)
    broken_tags: Counter = field(default_factory=Counter)
    mismatched_spans: Counter = field(default_factory=Counter)

    def add(self, other: "PreparationReport") -> None:
        """Add the counts of other rows."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        for task, unseen in other.unseen_labels.items():
            self.unseen_labels.setdefault(task, Counter()).update(unseen)

    def add_tokenised(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Count what tokenizing has done.

        Args:
            columns: What `Aligner` returns.
        """
        windows = [len(lengths) for lengths in columns.get("window_lengths", [])]
        self.windowed_rows += sum(count > 1 for count in windows)
        self.windows += sum(count for count in windows if count > 1)
        self.truncated_rows += sum(columns["truncated"])
        self.lost_words += sum(columns.get("lost_words", []))
        self.empty_rows += sum(count == 0 for count in columns["subwords"])

    def losses(self) -> list[str]:
        """Say what was cut, dropped, widened or left out, one line each; nothing where all is whole."""
        of_rows = f"of {self.rows} rows"
        lines = {
            f"{self.windowed_rows} {of_rows} cut into {self.windows} windows": self.windowed_rows,
            f"{self.truncated_rows} {of_rows} cut off at the longest length": self.truncated_rows,
            f"{self.empty_rows} {of_rows} have no subword": self.empty_rows,
            f"{self.lost_words} of {self.words} words have no subword: predicted as O, and scored": self.lost_words,
        }
        for task, count in self.unlabelled_rows.items():
            lines[f"{count} {of_rows} have no label for {task!r}"] = count
        for task, count in self.broken_tags.items():
            lines[f"{count} {of_rows} have tags of {task!r} that break their scheme's rule"] = count
        for task, count in self.mismatched_spans.items():
            lines[f"{count} spans of {task!r} start or end inside a word"] = count
        for task, unseen in self.unseen_labels.items():
            names = sorted(unseen)
            more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
            shown = ", ".join(names[:MAX_NAMES_SHOWN])
            lines[f"{unseen.total()} labels of {task!r} ignored: {shown}{more}"] = unseen.total()
        return [line for line, count in lines.items() if count]
