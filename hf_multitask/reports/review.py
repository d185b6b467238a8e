"""What a person should look at: mistakes of a model on labeled rows, and rows whose label is most likely wrong."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.annotation_records import RECORDS, ReviewedText, TextLabel, check_tool_tasks
from ..data.readers.annotation_tools import LABEL_STUDIO
from ..models.messages import unknown_name_message
from ..models.tasks import REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import to_json, whole_file
from .label_issues import SHARE, LabelIssue, find_label_issues
from .mistake_list import Mistake, MistakeCount, count_mistakes, find_mistakes, sort_mistakes
from .row_labels import given_labels, predicted_labels
from .split_result import SplitResult


@dataclass(frozen=True)
class Review:
    """Answers of a model on labeled rows, for a person who looks for what is wrong with them or with the labels.

    Args:
        tasks: The tasks. Regressions are left out: each of their numbers is off by something.
        result: Result of the model on the rows.
    """

    tasks: Sequence[TaskConfig]
    result: SplitResult

    @property
    def labeled_tasks(self) -> list[TaskConfig]:
        """The tasks that a row has a label for, without regressions."""
        return [task for task in self.tasks if task.problem_type != REGRESSION and self.result.has_labels(task)]

    def mistakes(self) -> list[Mistake]:
        """Return the wrong answers of all tasks, those of which the model was surest first."""
        return sort_mistakes([mistake for task in self.labeled_tasks for mistake in find_mistakes(task, self.result)])

    def confusions(self) -> list[MistakeCount]:
        """Return how often which label was given instead of which, the commonest first."""
        return count_mistakes(self.mistakes())

    def label_issues(self, share: float = SHARE) -> list[LabelIssue]:
        """Return the rows whose given label is most likely wrong, the least probable labels first.

        The model must not have been trained on the rows.

        Args:
            share: Share of the labeled rows of each task to list at least; 0 for only those that confident learning
                finds.

        Raises:
            ImportError: If cleanlab is not installed.
            ValueError: If ``share`` is not a number from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be a number in [0, 1], found {share!r}.")
        found = [issue for task in self.labeled_tasks for issue in find_label_issues(task, self.result, share)]
        return sorted(found, key=lambda issue: issue.quality)

    def write_mistakes(self, path: str | Path, tool: str | None = None) -> int:
        """Write the mistakes to a file, see `mistakes`.

        Args:
            path: The file.
            tool: Annotation tool that the file is for: ``label_studio``, ``doccano`` or ``prodigy``. The file has a
                record per row then, with the given labels to be corrected and the predicted ones; otherwise a line of
                JSON per mistake.

        Returns:
            The number of mistakes.

        Raises:
            ValueError: If the tool is unknown, or its records cannot have the labels of all tasks.
        """
        mistakes = self.mistakes()
        described = (self._describe_mistake(mistake) for mistake in mistakes)
        self._write(Path(path), tool, described, [(mistake.row, mistake.score) for mistake in mistakes])
        return len(mistakes)

    def write_label_issues(self, path: str | Path, tool: str | None = None, share: float = SHARE) -> list[LabelIssue]:
        """Write the rows whose given label is most likely wrong to a file, see `label_issues`.

        Args:
            path: The file.
            tool: See `write_mistakes`.
            share: See `label_issues`.

        Returns:
            What is listed.

        Raises:
            ImportError: If cleanlab is not installed.
            ValueError: See `write_mistakes`.
        """
        issues = self.label_issues(share)
        described = (self._describe_issue(issue) for issue in issues)
        self._write(Path(path), tool, described, [(issue.row, issue.quality) for issue in issues])
        return issues

    def _write(
        self, path: Path, tool: str | None, lines: Iterable[JsonObject], rows: Sequence[tuple[int, float]]
    ) -> None:
        if tool is None:
            _write_records(path, lines, as_list=False)
            return
        check_tool(tool, self.labeled_tasks)
        # A row has the score of the first of its entries.
        first: dict[int, float] = {}
        for row, score in rows:
            first.setdefault(row, score)
        _write_records(path, self._records(tool, first.items()), as_list=tool == LABEL_STUDIO)

    def _records(self, tool: str, rows: Iterable[tuple[int, float]]) -> Iterator[JsonObject]:
        tasks = self.labeled_tasks
        is_labeled = {task.name: self.result.is_labeled(task) for task in tasks}
        for row, score in rows:
            text, own = self.result.texts[row], [task for task in tasks if is_labeled[task.name][row]]
            item = ReviewedText(
                text=text.text,
                text_pair=text.text_pair,
                row=row + 1,
                score=score,
                given={task.name: given_labels(task, self.result, row) for task in own},
                predicted={task.name: predicted_labels(task, self.result, row) for task in own},
            )
            yield RECORDS[tool](item, tasks)

    def _describe_mistake(self, mistake: Mistake) -> JsonObject:
        return {
            "row": mistake.row + 1,
            "task": mistake.task,
            "kind": mistake.kind,
            "score": mistake.score,
            "given": None if mistake.given is None else _describe(mistake.given),
            "predicted": None if mistake.predicted is None else _describe(mistake.predicted),
            **self._texts(mistake.row),
        }

    def _describe_issue(self, issue: LabelIssue) -> JsonObject:
        words = self.result.texts[issue.row].words
        found = {"words": [words[i]._asdict() for i in issue.words]} if issue.words else {}
        return {
            "row": issue.row + 1,
            "task": issue.task,
            "quality": issue.quality,
            "confident": issue.is_confident,
            "given": [_describe(label) for label in issue.given],
            "predicted": [_describe(label) for label in issue.predicted],
            **found,
            **self._texts(issue.row),
        }

    def _texts(self, row: int) -> JsonObject:
        text = self.result.texts[row]
        return {"text": text.text, **({} if text.text_pair is None else {"text_pair": text.text_pair})}


def check_tool(tool: str | None, tasks: Sequence[TaskConfig] = ()) -> None:
    """Check that a file can be written for an annotation tool.

    Args:
        tool: Name of the tool; None for a file of our own.
        tasks: Tasks with labels, as far as they are known.

    Raises:
        ValueError: See `Review.write_mistakes`.
    """
    if tool is None:
        return
    if tool not in RECORDS:
        raise ValueError(unknown_name_message("annotation tool", tool, RECORDS))
    check_tool_tasks(tool, tasks)


def _describe(label: TextLabel) -> JsonObject:
    return {name: value for name, value in label._asdict().items() if value is not None}


def _write_records(path: Path, records: Iterable[JsonObject], as_list: bool) -> None:
    """Write records as lines of JSON, or as a list with a record per line."""
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        if not as_list:
            file.writelines(f"{_to_line(record)}\n" for record in records)
            return
        file.write("[")
        for number, record in enumerate(records):
            file.write(f"{',' if number else ''}\n{_to_line(record)}")
        file.write("\n]\n")


def _to_line(record: JsonObject) -> str:
    # Letters stay readable; numbers that JSON does not have become null.
    return json.dumps(json.loads(to_json(record)), ensure_ascii=False)
