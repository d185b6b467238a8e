"""Advice for known scores, times and intervals."""

import numpy as np

from hf_multitask.study.advice import summarize_advice
from hf_multitask.study.statistics import Interval
from hf_multitask.study.study_results import ScenarioResult, Score, Summary


def scenario(name, score, seconds, size=1000, seeds=3, before=0):
    overall = None if score is None else Score("mean of the tasks", score, 0.002 if seeds > 1 else None)
    summary = Summary(size, list(range(seeds)), {}, overall, seconds, seconds + before, 0, 0, {}, {}, None, None)
    return ScenarioResult(name, "", [], [summary])


def advise(*scenarios, noise=0.01, size=1000):
    """Return the advice if each difference is known up to ``noise``."""
    scores = {item.name: item.summary[0].overall for item in scenarios}
    scored = {name: score.mean for name, score in scores.items() if score is not None}
    differences = {
        (one, other): Interval(mean - scored[other], mean - scored[other] - noise, mean - scored[other] + noise)
        for one, mean in scored.items()
        for other in scored
        if one != other
    }
    return summarize_advice(scenarios, {size: differences}, test_rows=700)


def test_the_cheapest_that_may_be_as_good_is_advised():
    advice = advise(scenario("frozen", 0.6, 10), scenario("top", 0.895, 40), scenario("all", 0.9, 100))
    assert advice == (
        "1,000 training rows, 3 seeds, 700 test rows: all scores highest (0.9000 ± 0.0020). Use top: it takes 40.0 s "
        "instead of 100.0 s, and its difference is not statistically significant (-0.0050, 95 % interval -0.0150 to "
        "+0.0050). Significantly worse than all: frozen (-0.3000, 95 % interval -0.3100 to -0.2900)."
    )


def test_the_best_is_advised_if_nothing_as_good_is_cheaper():
    advice = advise(scenario("frozen", 0.6, 10), scenario("stages", 0.899, 98), scenario("all", 0.9, 100))
    assert "Use all (100.0 s). The difference to stages is not statistically significant" in advice


def test_a_best_scenario_that_was_trained_longer_is_marked():
    from_encoder, continued = scenario("all", 0.8, 50), scenario("head frozen", 0.9, 50, before=50)
    assert "Use head frozen (100.0 s). head frozen starts from a trained model" in advise(from_encoder, continued)
    assert "starts from" not in advise(scenario("all", 0.95, 50), continued)


def test_scenarios_that_are_slower_and_no_better_are_named():
    advice = advise(scenario("frozen", 0.6, 10), scenario("slow", 0.7, 300), scenario("all", 0.9, 100))
    assert advice.endswith("Both slower and no better than another on average: slow.")


def test_no_scenario_is_chosen_by_score_if_the_differences_are_within_chance():
    advice = advise(scenario("frozen", 0.6, 10), scenario("top", 0.62, 40), scenario("all", 0.61, 90), noise=0.1)
    assert "No difference between it and the other 2 is statistically significant" in advice
    assert "The cheapest is frozen (10.0 s)." in advice
    assert "use " not in advice.lower()


def test_a_single_seed_is_mentioned():
    advice = advise(scenario("frozen", 0.6, 10, seeds=1), scenario("all", 0.9, 100, seeds=1))
    assert "1 seed, 700 test rows" in advice
    assert advice.endswith("these intervals do not cover the variation between seeds.")


def test_a_scenario_without_all_tasks_is_not_compared():
    assert advise(scenario("alone", None, 1), scenario("all", 0.9, 100)).startswith("No advice")


def test_each_smaller_size_has_a_sentence():
    small = [scenario("frozen", 0.5, 3, size=50), scenario("all", 0.4, 9, size=50)]
    large = [scenario("frozen", 0.6, 10), scenario("all", 0.9, 100)]
    both = [
        ScenarioResult(one.name, "", [], [*one.summary, *other.summary])
        for one, other in zip(small, large, strict=True)
    ]
    clear = {("frozen", "all"): Interval(-0.3, -0.4, -0.2), ("all", "frozen"): Interval(0.3, 0.2, 0.4)}
    reverse = {pair: Interval(-found.mean, -found.high, -found.low) for pair, found in clear.items()}
    advice = summarize_advice(both, {50: reverse, 1000: clear}, 700)
    assert "With 50 rows frozen scores highest (0.5000 ± 0.0020)." in advice
    assert np.char.count(advice, "scores highest") == 2
