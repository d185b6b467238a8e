"""Rungs of a race: their lengths and seeds, what drops out, and when another seed is worth its time."""

import pytest

from hf_multitask.study.race_rungs import (
    BEHIND,
    WORSE,
    Length,
    Rung,
    RungResult,
    drop,
    is_worth,
    plan_rungs,
    rung_lengths,
)
from hf_multitask.study.statistics import Interval


def result(rung, scores, dropped=()):
    best = max(scores, key=scores.get)
    return RungResult(
        rung, tuple(scores), scores, dict.fromkeys(scores, 1.0), best, {}, dict.fromkeys(dropped, ""), True
    )


@pytest.mark.parametrize(
    ("size", "steps", "lengths"),
    [
        (1000, 252, [Length(250), Length(1000)]),
        (13084, 2454, [Length(817), Length(3271), Length(13084)]),
        # With fewer rows than say something, the trainings have fewer epochs.
        (50, 160, [Length(50, 4), Length(50)]),
        (200, 400, [Length(50, 4), Length(50), Length(200)]),
        (50, 800, [Length(50, 16), Length(50, 4), Length(50)]),
        # A quarter of the steps would be too few.
        (13084, 79, [Length(13084)]),
    ],
)
def test_rungs_are_a_quarter_as_long_as_the_next(size, steps, lengths):
    assert rung_lengths(size, steps) == lengths


def test_seeds_follow_lengths():
    lengths = [Length(50, 4), Length(50)]
    assert plan_rungs(lengths, [7, 8, 9]) == [
        Rung(Length(50, 4), (7,)),
        Rung(Length(50), (7,)),
        Rung(Length(50), (7, 8)),
        Rung(Length(50), (7, 8, 9)),
    ]
    assert [length.passes for length in lengths] == [12.5, 50]


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
    short, shorter, full, seeds, third = plan_rungs([Length(400, 16), Length(400, 4), Length(400)], [0, 1, 2])
    results = [result(rung, {str(i): i / 10 for i in range(n)}) for rung, n in ((short, 8), (shorter, 4), (full, 2))]
    passes = 8 * 400 * 3
    # 8 * 25 + 4 * 100 + 2 * 400 are trained, and 2 * 400 more are 2,200 of 9,600.
    assert is_worth(seeds, results, 2, passes)
    assert not is_worth(third, [*results, results[-1]], 2, passes)
    assert is_worth(full, results[:1] * 50, 2, passes)
    assert not is_worth(full, results[:1], 1, passes)
