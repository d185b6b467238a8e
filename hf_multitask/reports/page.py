"""A report as one HTML file that needs nothing else: no script, no network, no other file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..runtime.extras import check_packages

TEMPLATE = Path(__file__).with_name("page.html.jinja")
# What stands in front of an SVG file's root and what only a file needs of it.
_PROLOG = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_NAMESPACE = re.compile(r'\sxmlns(?::\w+)?="[^"]*"')
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'(\bid="|\bhref="#|url\(#)')
_NUMBER = re.compile(r"[-−+±]?\d[\d.,]*(?:e[-+]?\d+)?(?:\s?(?:%|±.*|[a-zA-Z]{1,3}))?")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain words."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of plain words; where it is wider than the page, it scrolls by itself.

    Args:
        header: Titles of the columns.
        rows: The cells by row.
        caption: What the table says.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    @property
    def numeric(self) -> list[bool]:
        """For each column whether all that stands in it are numbers."""
        columns = [[row[i] for row in self.rows if row[i]] for i in range(len(self.header))]
        return [bool(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in columns]


@dataclass(frozen=True)
class SvgFigure:
    """A drawing.

    Args:
        svg: An SVG file's text, as `curves.to_svg` returns it. It goes into the page as it is, so it must be of our
            own making.
        caption: What it shows, for those too who cannot see it.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Piece:
    """A part of a text, marked where it has a label."""

    text: str
    label: str = ""


@dataclass(frozen=True)
class Example:
    """A text several times over, each time with other parts of it marked.

    Args:
        title: What it is an example of.
        lines: For each time its name and the pieces of the text.
    """

    title: str
    lines: Sequence[tuple[str, Sequence[Piece]]]


Part = Paragraph | Table | SvgFigure | Example


@dataclass(frozen=True)
class Section:
    """A part of a page under a title of its own."""

    title: str
    parts: Sequence[Part]


def render_page(title: str, sections: Sequence[Section]) -> str:
    """Write a page as one HTML document.

    All words are escaped; nothing is loaded and nothing runs, which the page also tells the browser to hold it to.

    Args:
        title: Title of the page.
        sections: What stands on it.

    Returns:
        The document.

    Raises:
        ImportError: If jinja2 is not installed.
    """
    check_packages("reports", "a report")
    return _template().render(title=title, sections=sections)


@cache
def _template() -> Any:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = lambda picture, prefix: Markup(_inline(picture.svg, prefix))  # noqa: S704
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _inline(svg: str, prefix: str) -> str:
    """Return an SVG as a part of an HTML page, with ids that no other picture of the page has."""
    svg = _PROLOG.sub("", svg, count=1)

    def own_ids(tag: re.Match) -> str:
        text = _NAMESPACE.sub("", tag.group()).replace("xlink:href", "href")
        return _ID.sub(rf"\g<1>{prefix}-", text)

    return _TAG.sub(own_ids, svg)
