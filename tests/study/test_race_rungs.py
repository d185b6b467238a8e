"""Rungs of a race: their sizes and seeds, what drops out, and when another seed is worth its time."""

import pytest

from hf_multitask.study.race_rungs import BEHIND, WORSE, Rung, RungResult, drop, is_worth, plan_rungs, rung_sizes
from hf_multitask.study.statistics import Interval


def result(rung, scores, dropped=()):
    best = max(scores, key=scores.get)
    return RungResult(
        rung, tuple(scores), scores, dict.fromkeys(scores, 1.0), best, {}, dict.fromkeys(dropped, ""), True
    )


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(50, [50]), (100, [100]), (200, [50, 200]), (1000, [62, 250, 1000]), (13084, [817, 3271, 13084])],
)
def test_rungs_have_a_quarter_of_the_rows_of_the_next(size, sizes):
    assert rung_sizes(size) == sizes


def test_seeds_follow_rows():
    assert plan_rungs(200, [7, 8, 9]) == [
        Rung(50, (7,)),
        Rung(200, (7,)),
        Rung(200, (7, 8)),
        Rung(200, (7, 8, 9)),
    ]


def test_the_worse_drop_out_and_at_most_half_goes_on():
    scores = {"a": 0.9, "b": 0.89, "c": 0.88, "d": 0.87, "e": 0.2}
    chance = Interval(-0.01, -0.02, 0.01)
    differences = dict.fromkeys("bcd", chance) | {"e": Interval(-0.7, -0.8, -0.6)}
    assert drop(scores, differences, "a") == {"e": WORSE, "d": BEHIND}
    # Two go on even if that is more than half, but not if one is worse.
    assert drop({"a": 0.9, "b": 0.89}, {"b": chance}, "a") == {}
    assert drop({"a": 0.9, "b": 0.2}, {"b": differences["e"]}, "a") == {"b": WORSE}


def test_the_best_is_never_behind():
    scores = {"a": 0.5, "b": 0.5, "c": 0.5}
    equal = Interval(0.0, 0.0, 0.0)
    assert drop(scores, {"a": equal, "b": equal}, "c") == {"b": BEHIND}


def test_another_seed_is_trained_within_the_share_only():
    rungs = plan_rungs(400, [0, 1, 2])
    names = {str(i): i / 10 for i in range(8)}
    results = [result(rungs[0], names), result(rungs[1], {"7": 0.7, "6": 0.6})]
    full = 8 * 400 * 3
    # 8 * 100 + 2 * 400 rows are trained, and 2 * 400 more are 2,400 of 9,600.
    assert is_worth(rungs[2], results, 2, full)
    assert not is_worth(rungs[2], [*results, *results], 2, full)
    assert is_worth(rungs[1], results[:1] * 9, 2, full)
    assert not is_worth(rungs[1], results[:1], 1, full)
