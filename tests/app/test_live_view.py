"""What a view of runs or studies shows when others appear and disappear."""

import pytest

pytest.importorskip("gradio")

from hf_multitask.app.live_view import Drawing, Shown, name_to_show

pytestmark = pytest.mark.app


@pytest.mark.parametrize(
    ("names", "chosen", "last_names", "expected"),
    [
        ([], None, None, None),
        (["b", "a"], None, None, "b"),
        (["b", "a"], "a", None, "a"),
        (["b", "a"], "a", ["b", "a"], "a"),
        # A run that has just been started.
        (["c", "b", "a"], "a", ["b", "a"], "c"),
        # One that another page has deleted.
        (["b"], "a", ["b", "a"], "b"),
        ([], "a", ["a"], None),
    ],
)
def test_the_chosen_one_is_shown_until_a_newer_one_appears(names, chosen, last_names, expected):
    last = None if last_names is None else Shown(last_names, chosen, ())
    assert name_to_show(names, chosen, last) == expected


def test_charts_are_drawn_once_more_after_new_names_have_come():
    first = Drawing(("a",))
    assert first.title("epoch") == first.next(("a",)).title("epoch") == "epoch"
    changed = first.next(("a", "b"))
    assert changed.title("epoch") == "epoch"
    repeated = changed.next(("a", "b"))
    assert repeated.title("epoch") != "epoch"
    assert repeated.next(("a", "b")) == repeated
    assert repeated.next(("c",)).title("epoch") == "epoch"
