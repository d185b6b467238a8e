"""Counts of what happened to the rows of a split, so that nothing is lost or dropped silently."""

from collections import Counter
from dataclasses import dataclass, field

from ..models.messages import MAX_NAMES_SHOWN
from ..models.type_aliases import Batch


@dataclass(frozen=True)
class TeacherReport:
    """What a teacher says about training rows.

    Args:
        rows: Number of rows with scores of the teacher.
        labeled_rows: By task that the teacher has, how many of these rows have a label too.
        agreement: By task, the share of labels that the teacher predicts: of rows, or of words for a token task.
            Regressions, and tasks without a label in these rows, are left out.
    """

    rows: int
    labeled_rows: dict[str, int]
    agreement: dict[str, float]

    def __str__(self) -> str:
        """Return the counts as a sentence."""
        found = [f"{share:.1%} of labels of {name!r}" for name, share in self.agreement.items()]
        labeled = ", ".join(f"{rows:,} labeled for {name!r}" for name, rows in self.labeled_rows.items())
        return f"{self.rows:,} rows ({labeled}); predicts {', '.join(found) or 'tasks without labels'}"


@dataclass
class PreparationReport:
    """Counts of what happened to the rows of a split.

    Args:
        rows: Number of rows.
        words: Number of words, if there are token tasks.
        windowed_rows: Rows longer than the maximum length, cut into windows.
        windows: Number of windows of these rows.
        truncated_rows: Rows truncated to the maximum length, and pairs whose second text is truncated.
        lost_words: Words without a subword, truncated or dropped by the tokenizer. They are predicted as ``O`` and
            scored.
        empty_rows: Rows without any subword besides special tokens.
        unlabelled_rows: Rows without a label, by task.
        fully_labelled_rows: Rows with a label for every task.
        out_of_scope: Rows that are out of scope, by task. They have no label of it.
        unseen_labels: By task, the count of each label that is not in its label set.
        broken_tags: By token task, the rows with tags that break the rule of their scheme.
        mismatched_spans: By token task, the spans that start or end inside a word. They are widened to the word or
            dropped.
        repeated_spans: By token task, the spans that repeat another span of their row. They are left out.
    """

    rows: int = 0
    words: int = 0
    windowed_rows: int = 0
    windows: int = 0
    truncated_rows: int = 0
    lost_words: int = 0
    empty_rows: int = 0
    unlabelled_rows: Counter[str] = field(default_factory=Counter)
    fully_labelled_rows: int = 0
    out_of_scope: Counter[str] = field(default_factory=Counter)
    unseen_labels: dict[str, Counter[str]] = field(default_factory=dict)
    broken_tags: Counter[str] = field(default_factory=Counter)
    mismatched_spans: Counter[str] = field(default_factory=Counter)
    repeated_spans: Counter[str] = field(default_factory=Counter)

    def add(self, other: "PreparationReport") -> None:
        """Add the counts of other rows."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        for task, unseen in other.unseen_labels.items():
            self.unseen_labels.setdefault(task, Counter()).update(unseen)

    def add_tokenized(self, columns: Batch) -> None:
        """Count windows, truncated rows, lost words and empty rows.

        Args:
            columns: The columns that `Aligner` returns.
        """
        windows = [len(lengths) for lengths in columns.get("window_lengths", [])]
        self.windowed_rows += sum(count > 1 for count in windows)
        self.windows += sum(count for count in windows if count > 1)
        self.truncated_rows += sum(columns["truncated"])
        self.lost_words += sum(columns.get("lost_words", []))
        self.empty_rows += sum(count == 0 for count in columns["subwords"])

    def losses(self) -> list[str]:
        """Return a line for each kind of cut, dropped, widened or ignored item; empty if there are none."""
        of_rows = f"of {self.rows} rows"
        lines = {
            f"{self.windowed_rows} {of_rows} cut into {self.windows} windows": self.windowed_rows,
            f"{self.truncated_rows} {of_rows} truncated to the maximum length": self.truncated_rows,
            f"{self.empty_rows} {of_rows} have no subword": self.empty_rows,
            f"{self.lost_words} of {self.words} words have no subword: predicted as O, and scored": self.lost_words,
        }
        for task, count in self.unlabelled_rows.items():
            lines[f"{count} {of_rows} have no label for {task!r}"] = count
        for task, count in self.broken_tags.items():
            lines[f"{count} {of_rows} have tags of {task!r} that break their scheme's rule"] = count
        for task, count in self.mismatched_spans.items():
            lines[f"{count} spans of {task!r} start or end inside a word"] = count
        for task, count in self.repeated_spans.items():
            lines[f"{count} spans of {task!r} repeat another span of their row and are left out"] = count
        for task, unseen in self.unseen_labels.items():
            names = sorted(unseen)
            more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
            shown = ", ".join(names[:MAX_NAMES_SHOWN])
            what = f"labels of {task!r} that the task does not have, which no loss counts and no prediction can match"
            lines[f"{unseen.total()} {what}: {shown}{more}"] = unseen.total()
        return [line for line, count in lines.items() if count]
