"""Advice drawn from the results of a study, in one paragraph; no advice if the data are not enough for any."""

from collections.abc import Mapping, Sequence

from .statistics import Interval
from .study_results import ScenarioResult, Summary

# Smaller shares of time do not count as a gain: runs of the same length differ by about as much.
TIME_TOLERANCE = 0.1

Differences = Mapping[tuple[str, str], Interval | None]
"""By a pair of scenarios, the overall score of the first minus that of the second."""


def summarize_advice(
    scenarios: Sequence[ScenarioResult], differences: Mapping[int, Differences], test_rows: int, num_folds: int = 0
) -> str:
    """Name the cheapest scenario that may be the best, and the scenarios that are not worth their time.

    Args:
        scenarios: The scenarios, with their summaries.
        differences: Differences between the scenarios, by number of training rows.
        test_rows: Number of test rows, or of the rows of all folds.
        num_folds: Number of folds; 0 if the runs are scored on test.

    Returns:
        The paragraph.
    """
    sizes = sorted(differences)
    largest = sizes[-1]
    summaries = _with_overall_score(scenarios, largest)
    if len(summaries) < 2:
        return "No advice: it takes at least two scenarios that train all tasks."
    seeds = min(len(summary.seeds) for summary in summaries.values())
    scored = f"{test_rows:,} rows in {num_folds} folds" if num_folds else f"{test_rows:,} test rows"
    basis = f"{largest:,} training rows, {seeds} {'seed' if seeds == 1 else 'seeds'}, {scored}"
    lines = [_advise(summaries, differences[largest], basis)]
    for size in reversed(sizes[:-1]):
        smaller = _with_overall_score(scenarios, size)
        if len(smaller) > 1:
            best, cheapest = _choose(smaller, differences[size])
            also = "" if best == cheapest else f", and {cheapest} is the cheapest that may be as good"
            lines.append(f"With {size:,} rows {best} scores highest ({_format_score(smaller[best])}){also}.")
    if seeds == 1 and not num_folds:
        lines.append("With a single seed, these intervals do not cover the variation between seeds.")
    return " ".join(lines)


def choose_scenario(scenarios: Sequence[ScenarioResult], differences: Mapping[int, Differences]) -> str | None:
    """Return the scenario that the advice names for the most training rows.

    Args:
        scenarios: The scenarios, with their summaries.
        differences: Differences between the scenarios, by number of training rows.

    Returns:
        Name of the cheapest scenario that may be the best; None if there is nothing to choose from.
    """
    largest = max(differences)
    summaries = _with_overall_score(scenarios, largest)
    return _choose(summaries, differences[largest])[1] if len(summaries) > 1 else None


def _advise(summaries: Mapping[str, Summary], differences: Differences, basis: str) -> str:
    best, cheapest = _choose(summaries, differences)
    rivals = [name for name in summaries if name != best and not _is_worse(differences, name, best)]
    lines = [f"{basis[0].upper()}{basis[1:]}: {best} scores highest ({_format_score(summaries[best])})."]
    if len(rivals) == len(summaries) - 1:
        lines.append(
            f"No difference between it and the other {len(rivals)} is statistically significant (95 % intervals). "
            "Choosing by score would take more test rows or seeds."
        )
        if cheapest != best:
            lines.append(f"The cheapest is {cheapest} ({_format_seconds(summaries[cheapest])}).")
        return " ".join(lines)
    if cheapest == best:
        also = (
            f" The difference to {_join(rivals)} is not statistically significant, but they save no time."
            if rivals
            else ""
        )
        lines.append(f"Use {best} ({_format_seconds(summaries[best])}).{also}")
    else:
        lines.append(
            f"Use {cheapest}: it takes {_format_seconds(summaries[cheapest])} instead of "
            f"{_format_seconds(summaries[best])}, and its difference is not statistically significant "
            f"({_format_interval(differences[cheapest, best])})."
        )
    if summaries[best].total_seconds > summaries[best].seconds:
        lines.append(
            f"{best} starts from a trained model: in total it was trained longer than scenarios that start from the "
            "encoder."
        )
    worse = [name for name in summaries if name not in (best, *rivals)]
    if worse:
        phrases = [f"{name} ({_format_interval(differences[name, best])})" for name in worse]
        lines.append(f"Significantly worse than {best}: {_join(phrases)}.")
    if dominated := _dominated(summaries):
        lines.append(f"Both slower and no better than another on average: {_join(dominated)}.")
    return " ".join(lines)


def _with_overall_score(scenarios: Sequence[ScenarioResult], size: int) -> dict[str, Summary]:
    """Return the summaries of the scenarios that train all tasks, by name."""
    summaries = {scenario.name: scenario.summary_of(size) for scenario in scenarios}
    return {
        name: summary for name, summary in summaries.items() if summary is not None and summary.overall is not None
    }


def _choose(summaries: Mapping[str, Summary], differences: Differences) -> tuple[str, str]:
    """Return the scenario with the highest score, and the cheapest of those that may be as good."""
    best = max(summaries, key=lambda name: _mean(summaries[name]))
    equals = [name for name in summaries if name == best or not _is_worse(differences, name, best)]
    cheapest = min(equals, key=lambda name: summaries[name].total_seconds)
    saves_time = summaries[cheapest].total_seconds < (1 - TIME_TOLERANCE) * summaries[best].total_seconds
    return best, cheapest if saves_time else best


def _dominated(summaries: Mapping[str, Summary]) -> list[str]:
    """Return the scenarios that another one beats in time without a lower score."""
    return [
        name
        for name, summary in summaries.items()
        if any(
            _mean(other) >= _mean(summary) and other.total_seconds < (1 - TIME_TOLERANCE) * summary.total_seconds
            for other in summaries.values()
        )
    ]


def _is_worse(differences: Differences, name: str, best: str) -> bool:
    """Return whether a scenario is worse than the best one beyond chance."""
    difference = differences[name, best]
    return difference is not None and difference.high < 0


def _mean(summary: Summary) -> float:
    return summary.overall.mean if summary.overall is not None else 0.0


def _format_score(summary: Summary) -> str:
    sd = summary.overall.sd if summary.overall is not None else None
    return f"{_mean(summary):.4f}" + ("" if sd is None else f" ± {sd:.4f}")


def _format_seconds(summary: Summary) -> str:
    return f"{summary.total_seconds:,.1f} s"


def _format_interval(difference: Interval | None) -> str:
    if difference is None:
        return "not compared"
    return f"{difference.mean:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"


def _join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
