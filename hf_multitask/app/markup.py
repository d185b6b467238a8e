"""Pieces of HTML. All text is escaped."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

from ..reports.page import Piece


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table. A line feed in a cell starts a new line."""
    return raw_table(header, [[_lines(cell) for cell in row] for row in rows], caption)


def raw_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table of cells that are HTML of this module. It can be scrolled sideways, also with the keyboard.

    Each cell has the name of its column, which a narrow page shows in front of it.
    """
    names = [escape(name) for name in header]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(f"<tr>{_cells(names, row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = escape(caption) or " / ".join(names)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table class="facts">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def notice(text: str, kind: str = "info") -> str:
    """Return a paragraph in a box, or nothing if the text is empty.

    Args:
        text: Plain text.
        kind: ``"info"``, ``"warning"`` or ``"error"``.
    """
    return f'<p class="notice {escape(kind)}" role="status">{escape(text)}</p>' if text else ""


def heading(text: str) -> str:
    """Return a heading below the heading of the page."""
    return f'<h2 class="part">{escape(text)}</h2>'


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def plain(text: str) -> str:
    """Return text as HTML, in which a line feed starts a new line."""
    return _lines(text)


def progress_bar(step: int, max_steps: int, label: str = "steps of the training") -> str:
    """Return a progress bar, which is empty if the number of steps is not known yet."""
    share = f' value="{step}" max="{max_steps}"' if max_steps else ' value="0" max="1"'
    return f'<progress class="steps"{share} aria-label="{escape(label)}"></progress>'


def marked(pieces: Iterable[Piece]) -> str:
    """Return a text whose labeled pieces are marked, each with its label behind it."""
    return "".join(
        f'<mark class="entity">{escape(piece.text)} <b>{escape(piece.label)}</b></mark>'
        if piece.label
        else escape(piece.text)
        for piece in pieces
    )


def bar(label: str, share: float) -> str:
    """Return a score as a bar with its label and its value in percent."""
    percent = max(0.0, min(1.0, share))
    return (
        f'<div class="score"><span class="label">{escape(label)}</span><span class="track" aria-hidden="true">'
        f'<span style="width:{percent:.1%}"></span></span><span class="value">{share:.1%}</span></div>'
    )


def picture(data: bytes, alt: str, kind: str = "png", label: str = "picture") -> str:
    """Return a picture that can be scrolled sideways.

    Args:
        data: Content of its file.
        alt: Description for those who do not see it.
        kind: ``"png"`` or ``"svg+xml"``.
        label: Name of the picture, if there are several.
    """
    image = f'<img src="data:image/{kind};base64,{b64encode(data).decode()}" alt="{escape(alt)}">'
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{image}</div>'


def _cells(names: Sequence[str], row: Sequence[str]) -> str:
    return "".join(f'<td data-column="{name}">{cell}</td>' for name, cell in zip_longest(names, row, fillvalue=""))


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))
