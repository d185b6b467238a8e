"""Parser of a report page: its text, tables, ids and links."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Parts of a page that tests check."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.ids, self.links, self.tables = text, [], [], [], []
        self.words, self.styles, self._cell = [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "xlink:href", "srcset", "action", "data"):
                self.links.append(value)
            elif value:
                self.links += [f"#{name}" for name in re.findall(r"url\(#([^)]*)\)", value)]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self._cell))
            self._cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self._cell is not None:
            self._cell.append(data)

    @property
    def plain(self):
        """Text of the page."""
        return " ".join("".join(self.words).split())

    def table(self, first):
        """Return the only table with the given first cell, as rows by their first cell."""
        (rows,) = [rows for rows in self.tables if rows[0][0] == first]
        return {row[0]: row[1:] for row in rows}


def check_self_contained(page):
    """Check that a page loads and runs nothing, and that all its links point into it."""
    assert not {"script", "iframe", "object", "embed", "link", "img"} & set(page.tags) - {"link"}
    assert [link for link in page.links if not link.startswith("#")] == ["data:,"] * page.tags.count("link")
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "@import" not in page.text
