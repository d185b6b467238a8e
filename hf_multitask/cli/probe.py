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
        trained = f"heads are trained on {task.training_rows:,} labeled rows"
        scored = f"scored on {task.held_out_rows:,} ({probe.held_out})"
        console.print(Text(f"{task.name}: {trained} and {scored}."), soft_wrap=True)
    for sentence in probe.sentences():
        console.print(Text(sentence), soft_wrap=True)
