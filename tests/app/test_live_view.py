"""What a view of runs or studies shows when others appear and disappear."""

import pytest

from hf_multitask.app.live_view import Shown, name_to_show


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
