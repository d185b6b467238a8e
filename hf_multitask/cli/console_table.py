"""Tables that fit the terminal: cells are wrapped between words, or each row becomes a block of lines."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# A cell has a space on each side and a line at one of them.
_FRAME = 3
_INDENT = 2


def print_cells(
    header: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None, title: str | None = None
) -> None:
    """Print a table of which nothing is cut off at the width of the terminal.

    Args:
        header: Names of the columns.
        rows: Cells of each row. Markup in them is printed as it is.
        console: Console to print to. Defaults to standard output.
        title: Line above the table.
    """
    console = console or Console()
    if title is not None:
        console.print(Text(title, "italic"))
    widths = fitting_widths(header, rows, console.width - 1 - _FRAME * len(header))
    if widths is None:
        _print_blocks(header, rows, console)
        return
    table = Table(box=box.HEAVY_HEAD)
    for name, width in zip(header, widths, strict=True):
        table.add_column(Text(name), width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def fitting_widths(header: Sequence[str], rows: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Return widths of the columns that break no word, None if there are none.

    Args:
        header: Names of the columns.
        rows: Cells of each row.
        available: Sum of the widths that fits.
    """
    columns = list(zip(header, *rows, strict=True))
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    wanted = [max(cell_len(line) for cell in column for line in cell.splitlines() or [""]) for column in columns]
    spare = available - sum(least)
    if spare < 0:
        return None
    widths = least.copy()
    # The columns that need least get it first, so that few cells are wrapped.
    for left, i in zip(
        range(len(columns), 0, -1), sorted(range(len(columns)), key=lambda i: wanted[i] - least[i]), strict=True
    ):
        more = min(wanted[i] - least[i], spare // left)
        widths[i] += more
        spare -= more
    return widths


def _print_blocks(header: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print each row as its first cell and, below, a line for each other cell that is not empty."""
    for first, *cells in rows:
        console.print(Text(f"{header[0]} {first}".strip(), "bold", overflow="fold"))
        for name, cell in zip(header[1:], cells, strict=True):
            if cell:
                line = Text(f"{name}: " if name else "", overflow="fold").append(" · ".join(cell.splitlines()))
                console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))
