"""Output of the command ``study``."""

from rich.console import Console
from rich.text import Text

from ..study import RunResult, Study
from ..study.report import scores_table, sharing_table
from .console_table import print_cells


def print_run(name: str, result: RunResult, done: int, of: int) -> None:
    """Print one line for a finished run.

    Args:
        name: Name of the run.
        result: Result of the run.
        done: Number of finished runs.
        of: Number of all runs.
    """
    test = result.metrics["test"]
    scores = ", ".join(
        f"{metric} {value:.4f}" for metric, value in test.items() if metric.endswith(("accuracy", "_f1"))
    )
    # A string may contain emoji for rich, as in the name lora:top:2.
    Console().print(Text(f"{done}/{of} {name}: {result.seconds:.1f} s. {scores}"), soft_wrap=True)


def print_study(study: Study, console: Console | None = None) -> None:
    """Print a table of test scores for each number of training rows, and the advice.

    Args:
        study: The study.
        console: Console to print to. Defaults to standard output.
    """
    console = console or Console()
    for size in study.sizes:
        scores = scores_table(study, size)
        print_cells(scores.header, scores.rows, console, title=f"{size:,} training rows")
        sharing = sharing_table(study, size)
        if sharing is not None:
            print_cells(sharing.header, sharing.rows, console, title=f"Sharing, {size:,} training rows")
    console.print(Text(study.advice))
