"""Progress bar of a command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def show_progress(unit: str) -> Iterator[Callable[[int, float | None], None]]:
    """Show a progress bar while a block runs. Without a terminal on stderr, nothing is shown.

    Args:
        unit: Name of the counted items, such as ``"rows"``.

    Yields:
        A function that takes the number of items done, and their share of all items or None if it is not known.
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

        def update(done: int, share: float | None) -> None:
            # Created on the first call, so that of several processes only the one that reports progress shows a bar.
            bar = next(iter(progress.task_ids), None)
            if bar is None:
                bar = progress.add_task(unit, total=None, done=0)
            progress.update(bar, done=done, total=None if share is None else 1.0, completed=share)

        yield update
