"""Output of the command ``study``."""

from rich.console import Console
from rich.text import Text

from ..study import Race, RaceProgress, RunResult, Study
from ..study.race_results import CONFIG_NAME as WINNER_NAME
from ..study.race_results import price_table, rung_table
from ..study.race_rungs import RungResult
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
    # A string may contain emoji for rich, as in the name lora:top:2.
    Console().print(Text(f"{done}/{of} {_describe(name, result)}"), soft_wrap=True)


def print_training(progress: RaceProgress) -> None:
    """Print one line for a finished training of a race, with the time that is left."""
    left = "" if progress.minutes_left is None else f"; {progress.minutes_left:,.1f} minutes left"
    place = f"rung {progress.rung} of at most {progress.num_rungs}, {progress.done}/{progress.of}"
    Console().print(Text(f"{place} {_describe(progress.run, progress.result)}{left}"), soft_wrap=True)


def print_rung(result: RungResult) -> None:
    """Print the scores after a rung of a race, and what drops out."""
    table = rung_table(result)
    print_cells(table.header, table.rows, Console(), title=result.rung.text)


def print_race(race: Race) -> None:
    """Print the price list of a race, its recommendation, and how to train it."""
    console = Console()
    prices = price_table(race)
    print_cells(prices.header, prices.rows, console, title="Score against minutes")
    console.print(Text(prices.caption))
    if race.out_of_time:
        console.print("The race was ended before it was over; the same command continues it.")
    console.print(Text(race.recommendation))
    console.print(Text(f"race.json and race.md are in {race.folder}"), soft_wrap=True)
    winner = race.folder / WINNER_NAME
    if winner.is_file():
        console.print(Text(f"To train it: hf-multitask train {winner}"), soft_wrap=True)


def _describe(name: str, result: RunResult) -> str:
    test = result.metrics["test"]
    scores = ", ".join(
        f"{metric} {value:.4f}" for metric, value in test.items() if metric.endswith(("accuracy", "_f1"))
    )
    return f"{name}: {result.seconds:.1f} s. {scores}"


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
