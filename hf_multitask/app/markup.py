"""Pieces of HTML; whatever comes from outside is escaped."""

from collections.abc import Sequence
from html import escape


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a line feed in a cell begins a new line."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_lines(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="facts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def notice(text: str, kind: str = "info") -> str:
    """Return a paragraph in a box; nothing for no text.

    Args:
        text: Plain text.
        kind: ``"info"``, ``"warning"`` or ``"error"``.
    """
    return f'<p class="notice {escape(kind)}" role="status">{escape(text)}</p>' if text else ""


def progress_bar(done: int, whole: int) -> str:
    """Return a bar; an empty one where the whole is not known yet."""
    share = f' value="{done}" max="{whole}"' if whole else ' value="0" max="1"'
    return f'<progress class="steps"{share} aria-label="steps of the training"></progress>'


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))
