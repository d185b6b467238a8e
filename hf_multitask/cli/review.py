"""Files and tables of mistakes and of labels that are most likely wrong."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from ..models.tasks import TaskConfig
from ..reports.label_issues import EXTRA, SHARE, LabelIssue
from ..reports.mistake_list import MistakeCount
from ..reports.review import Review, check_tool
from ..runtime.extras import check_packages
from .console_table import print_cells

SHOWN = 10
NO_LABEL = "–"


def check_review_options(
    tool: str | None,
    mistakes: Path | None = None,
    label_issues: Path | None = None,
    tasks: Sequence[TaskConfig] = (),
    share: float = SHARE,
) -> None:
    """Check the options before a model is loaded or trained.

    Args:
        tool: Annotation tool.
        mistakes: File of mistakes.
        label_issues: File of rows whose label is most likely wrong.
        tasks: The tasks, as far as they are known.
        share: Share of the rows to list.

    Raises:
        ImportError: If cleanlab is needed and not installed.
        ValueError: If the tool is unknown, does not fit the tasks, or is given without a file.
    """
    check_tool(tool, tasks)
    if not 0 <= share <= 1:
        raise ValueError(f"--share must be a number in [0, 1], found {share!r}.")
    if tool is not None and mistakes is None and label_issues is None:
        raise ValueError("--for: expected a file for the annotation tool; give --mistakes or --label-issues.")
    if label_issues is not None:
        check_packages(EXTRA, "a list of wrong labels")


def write_review(
    review: Review,
    tool: str | None,
    mistakes: Path | None = None,
    label_issues: Path | None = None,
    share: float = SHARE,
) -> None:
    """Write the files that are asked for, and print what is in them.

    Args:
        review: The answers of a model.
        tool: Annotation tool that the files are for.
        mistakes: File of mistakes.
        label_issues: File of rows whose label is most likely wrong.
        share: Share of the rows to list in it at least.
    """
    rows = len(review.result.texts)
    if mistakes is not None:
        count = review.write_mistakes(mistakes, tool)
        print_mistakes(review.confusions())
        typer.echo(f"{count:,} mistakes in {rows:,} rows, the surest first, written to {mistakes}")
    if label_issues is not None:
        issues = review.write_label_issues(label_issues, tool, share)
        print_label_issues(issues)
        confident = sum(issue.is_confident for issue in issues)
        typer.echo(
            f"{len(issues):,} labels in {rows:,} rows, the least probable first, written to {label_issues}; "
            f"{confident:,} of them are wrong by confident learning"
        )


def print_mistakes(counts: Sequence[MistakeCount], console: Console | None = None) -> None:
    """Print the commonest mistakes.

    Args:
        counts: The mistakes, the commonest first.
        console: Console to print to. Defaults to standard output.
    """
    if not counts:
        return
    rows = [
        [one.task, one.kind, one.given or NO_LABEL, one.predicted or NO_LABEL, f"{one.mistakes:,}"]
        for one in counts[:SHOWN]
    ]
    title = f"The {len(rows)} commonest of {len(counts):,} kinds of mistakes"
    print_cells(["task", "mistake", "given", "predicted", "number"], rows, console, title)


def print_label_issues(issues: Sequence[LabelIssue], console: Console | None = None) -> None:
    """Print the rows whose label is least probable.

    Args:
        issues: The rows, the least probable label first.
        console: Console to print to. Defaults to standard output.
    """
    if not issues:
        return
    rows = [
        [str(one.row + 1), one.task, *(", ".join(label.label for label in labels) or NO_LABEL for labels in found)]
        for one, found in ((issue, (issue.given, issue.predicted)) for issue in issues[:SHOWN])
    ]
    print_cells(["row", "task", "given", "predicted"], rows, console, "Rows whose label is least probable")
