"""Colors of charts."""

import re

from hf_multitask.app.chart_colors import chart_colors

NAMES = [f"curve {number}" for number in range(21)]


def test_the_first_colors_differ_and_none_is_the_background():
    colors = chart_colors([*NAMES, NAMES[0]])
    assert list(colors) == NAMES
    assert len(set(colors.values())) == len(NAMES)
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in colors.values())
    # White and nearly black are the backgrounds of the page.
    brightness = [sum(bytes.fromhex(color[1:])) / 3 for color in colors.values()]
    assert 50 < min(brightness) < max(brightness) < 225


def test_a_color_does_not_depend_on_the_names_that_follow():
    assert chart_colors(NAMES[:3]).items() <= chart_colors(NAMES).items()
