"""Rendering of a report as one self-contained HTML file, without scripts, network access or other files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.extras import check_packages

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("page.html.jinja")
# Parts of an SVG file that are not needed inside an HTML page: everything before the root, and the namespaces.
_PROLOG = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_NAMESPACE = re.compile(r'\sxmlns(?::\w+)?="[^"]*"')
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'(\bid="|\bhref="#|url\(#)')
_NUMBER = re.compile(r"[-−+±]?\d[\d.,]*(?:e[-+]?\d+)?(?:\s?(?:%|±.*|[a-zA-Z]{1,3}))?")


@dataclass(frozen=True)
class Paragraph:
    """Paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Table of plain text, which scrolls if it is wider than the page.

    Args:
        header: Titles of the columns.
        rows: Cells by row.
        caption: Caption of the table.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column contains only numbers."""
        columns = [[row[i] for row in self.rows if row[i]] for i in range(len(self.header))]
        return [bool(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in columns]


@dataclass(frozen=True)
class SvgFigure:
    """Figure as an SVG.

    Args:
        svg: Text of an SVG file, from `to_svg`. It is inserted into the page without escaping, so it must be trusted.
        caption: Description of the figure, which is also its accessible name.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Piece:
    """Piece of a text, which is marked if it has a label."""

    text: str
    label: str = ""


@dataclass(frozen=True)
class Example:
    """Text that is shown several times, each time with other pieces marked.

    Args:
        title: Title of the example.
        lines: Name and pieces of each version of the text.
    """

    title: str
    lines: Sequence[tuple[str, Sequence[Piece]]]


Part = Paragraph | Table | SvgFigure | Example


@dataclass(frozen=True)
class Section:
    """Section of a page."""

    title: str
    parts: Sequence[Part]


def render_page(title: str, sections: Sequence[Section]) -> str:
    """Render a page as one HTML document.

    All text is escaped. The page loads nothing and runs nothing, and its content security policy makes the browser
    enforce that.

    Args:
        title: Title of the page.
        sections: Sections of the page.

    Returns:
        The HTML document.

    Raises:
        ImportError: If jinja2 is not installed.
    """
    check_packages("reports", "a report")
    return _template().render(title=title, sections=sections)


def markdown_table(table: Table) -> str:
    """Render a table as Markdown, below its caption if it has one."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    rows = "\n".join(f"| {' | '.join(map(escape_markdown, cells))} |" for cells in lines)
    return f"{table.caption}\n\n{rows}" if table.caption else rows


def escape_markdown(text: str) -> str:
    """Escape the characters of a text that would break a Markdown table or be read as emphasis."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


@cache
def _template() -> "Template":
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = lambda figure, prefix: Markup(_inline(figure.svg, prefix))  # noqa: S704
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _inline(svg: str, prefix: str) -> str:
    """Return an SVG for use inside an HTML page, with a prefix that makes its ids unique on the page."""
    svg = _PROLOG.sub("", svg, count=1)

    def add_prefix(tag: re.Match[str]) -> str:
        text = _NAMESPACE.sub("", tag.group()).replace("xlink:href", "href")
        return _ID.sub(rf"\g<1>{prefix}-", text)

    return _TAG.sub(add_prefix, svg)
