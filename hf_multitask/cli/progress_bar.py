"""A bar that says how far a command has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, float | None], None]]:
    """Show a bar on the terminal while a block of code runs; nothing where stderr is no terminal.

    Args:
        what: What is counted.

    Yields:
        What moves the bar: to a number of things done, and to a share of all, None where that is not known.
    """
    columns = (
        TextColumn("{task.fields[done]:,} {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:

        def move(done: int, share: float | None) -> None:
            # Only here, so that of several processes those that never move it show none.
            bar = next(iter(progress.task_ids), None)
            if bar is None:
                bar = progress.add_task(what, total=None, done=0)
            progress.update(bar, done=done, total=None if share is None else 1.0, completed=share)

        yield move
