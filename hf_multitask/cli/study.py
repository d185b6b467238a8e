"""What the command `study` prints: each run when it is finished, and the scores of all."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..study import RunResult, Study
from ..study.report import scores_table


def print_run(name: str, result: RunResult, done: int, of: int) -> None:
    """Print a line on a run that is finished.

    Args:
        name: Name of the run.
        result: What it gave.
        done: How many are finished.
        of: How many there are.
    """
    test = result.metrics["test"]
    scores = ", ".join(
        f"{metric} {value:.4f}" for metric, value in test.items() if metric.endswith(("accuracy", "_f1"))
    )
    Console().print(escape(f"{done}/{of} {name}: {result.seconds:.1f} s. {scores}"), highlight=False, soft_wrap=True)


def print_study(study: Study) -> None:
    """Print the scores on test by number of training rows, and the advice.

    Args:
        study: The study.
    """
    console = Console()
    for size in study.sizes:
        scores = scores_table(study, size)
        table = Table(*map(escape, scores.header), title=f"{size:,} training rows", title_justify="left")
        for row in scores.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    console.print(escape(study.advice), highlight=False)
