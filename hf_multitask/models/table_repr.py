"""Objects that a Python prompt and a notebook show as short tables."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MAX_ROWS = 25
_MAX_CELL = 60


@dataclass(frozen=True)
class ReprTable:
    """A short table.

    Args:
        title: Line above it.
        header: Names of the columns.
        rows: The cells. Numbers are written as texts.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_text(self) -> str:
        """Return the table as lines, with at most `MAX_ROWS` rows."""
        rows = [self.header, *self._shown()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])

    def to_html(self) -> str:
        """Return the table as HTML."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self._shown())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        caption = f"<caption>{escape(self.title)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _shown(self) -> list[list[str]]:
        rows = [[textwrap.shorten(cell, _MAX_CELL, placeholder="…") for cell in row] for row in self.rows[:MAX_ROWS]]
        if left := len(self.rows) - len(rows):
            rows.append([f"… {left} more", *[""] * (len(self.header) - 1)])
        return rows


class ShownAsTable:
    """Base class of objects that are shown as tables instead of by all their fields."""

    def repr_tables(self) -> Sequence[ReprTable]:
        """Return the tables."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(table.to_text() for table in self.repr_tables())

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return "".join(table.to_html() for table in self.repr_tables())
