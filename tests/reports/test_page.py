"""A page escapes all text, loads nothing and runs nothing."""

import sys

import pytest
from matplotlib.figure import Figure

from hf_multitask.reports.figure_style import figure_style, to_svg
from hf_multitask.reports.page import Example, Paragraph, Piece, Section, SvgFigure, Table, render_page
from tests.reports.reading import Page, check_self_contained

EVIL = "<script>alert('1')</script>\"&amp;"


def svg():
    with figure_style():
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([1, 2, 3], label=EVIL, marker="o")
        axes.set_title("$x_1$ costs 5 > 3")
        axes.legend()
        return to_svg(figure)


@pytest.fixture
def page():
    parts = [
        Paragraph(EVIL),
        Table([EVIL, "score"], [[EVIL, "0.5"], ["b", ""]], EVIL),
        SvgFigure(svg(), EVIL),
        SvgFigure(svg(), "again"),
        Example(EVIL, [(EVIL, [Piece(EVIL), Piece(EVIL, EVIL)])]),
    ]
    return Page(
        render_page(EVIL, [Section(EVIL, parts), Section("two", []), Section("three", [SvgFigure(svg(), "")])])
    )


def test_text_is_never_markup(page):
    assert "script" not in page.tags
    # The title twice, the section title twice (also in the list of sections), ten parts, the legends of three figures.
    assert page.plain.count(EVIL) == 2 + 2 + 10 + 3
    assert page.table(EVIL)[EVIL] == ["0.5"]


def test_a_page_is_self_contained(page):
    check_self_contained(page)
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<?xml" not in page.text
    assert page.text.count("<!DOCTYPE") == 1


def test_the_text_of_a_figure_stays_text(page):
    assert "$x_1$ costs 5 > 3" in page.plain


def test_columns_of_numbers_are_detected():
    rows = [
        ["a", "0.5", "1,024 MiB", "3.1%", "x"],
        ["b", "", "12 MiB", "0.92 ± 0.01", "1"],
        ["3", "-1e-05", "7", "2", ""],
    ]
    assert Table(["l", "n", "m", "p", "t"], rows).numeric == [False, True, True, True, False]
    assert Table(["nothing"], [[""]]).numeric == [False]
    assert Table(["no rows"], []).numeric == [False]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"a report needs jinja2: pip install 'hf-multitask\[reports\]'"):
        render_page("", [])
