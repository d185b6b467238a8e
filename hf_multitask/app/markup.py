"""Pieces of HTML. All text is escaped."""

from collections.abc import Sequence
from html import escape


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. A line feed in a cell starts a new line."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_lines(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="facts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def notice(text: str, kind: str = "info") -> str:
    """Return a paragraph in a box, or nothing if the text is empty.

    Args:
        text: Plain text.
        kind: ``"info"``, ``"warning"`` or ``"error"``.
    """
    return f'<p class="notice {escape(kind)}" role="status">{escape(text)}</p>' if text else ""


def progress_bar(step: int, max_steps: int) -> str:
    """Return a progress bar, which is empty if the number of steps is not known yet."""
    share = f' value="{step}" max="{max_steps}"' if max_steps else ' value="0" max="1"'
    return f'<progress class="steps"{share} aria-label="steps of the training"></progress>'


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))
