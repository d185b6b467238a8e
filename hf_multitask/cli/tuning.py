"""Output of the command ``tune``."""

from rich.console import Console
from rich.markup import escape

from ..reports.page import Table as Cells
from ..tuning import TrialResult, TuningResult
from ..tuning.report import importance_table, scores_table, summarize, trials_table
from .console_table import print_cells

NUM_TRIALS_SHOWN, NUM_KEYS_SHOWN = 5, 8


def print_trial(trial: TrialResult, done: int, of: int) -> None:
    """Print one line for a finished trial.

    Args:
        trial: Result of the trial.
        done: Number of finished trials.
        of: Number of all trials.
    """
    value = "no score" if trial.value is None else f"{trial.value:.4f}"
    pruned = ", pruned" if trial.pruned else ""
    line = f"{done}/{of} trial {trial.number}: {value}{pruned}, {trial.seconds:.1f} s"
    Console().print(escape(line), highlight=False, soft_wrap=True)


def print_tuning(result: TuningResult, console: Console | None = None) -> None:
    """Print the best trials, the most important keys and the scores of the winner.

    Args:
        result: Results of the search.
        console: Where to print.
    """
    console = console or Console()
    cells = [trials_table(result, NUM_TRIALS_SHOWN)]
    if result.importance:
        importance = importance_table(result)
        cells.append(Cells(importance.header, importance.rows[:NUM_KEYS_SHOWN]))
    cells.append(scores_table(result))
    for item in cells:
        print_cells(item.header, item.rows, console)
    console.print(escape(summarize(result)), highlight=False)
