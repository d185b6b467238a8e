"""Output of the command ``probe``."""

from rich.console import Console
from rich.text import Text

from ..probing import LayerProbe
from .console_table import print_cells


def print_probe(probe: LayerProbe, console: Console | None = None) -> None:
    """Print scores and gradients by depth, and what they say.

    Args:
        probe: The probe.
        console: Console to print to. Defaults to standard output.
    """
    console = console or Console()
    print_cells(*probe.table(), console, title=f"Linear heads on each depth of {probe.encoder}")
    for task in probe.tasks:
        rows = f"{task.training_rows:,} labeled rows train its heads, {task.held_out_rows:,} score them"
        console.print(Text(f"{task.name}: {rows} ({probe.held_out})."), soft_wrap=True)
    for sentence in probe.sentences():
        console.print(Text(sentence), soft_wrap=True)
