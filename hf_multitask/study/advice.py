"""What a study's numbers say to do, in one paragraph; nothing where they cannot tell."""

from collections.abc import Mapping, Sequence

from .statistics import Interval
from .study_results import ScenarioResult, Summary

# A gain in time below this share is none: runs of the same length differ by about as much.
TIME_TOLERANCE = 0.1

Differences = Mapping[tuple[str, str], Interval | None]


def summarize_advice(
    scenarios: Sequence[ScenarioResult], differences: Mapping[int, Differences], test_rows: int
) -> str:
    """Say which scenario is the cheapest of those that may be the best, and which are not worth their time.

    Args:
        scenarios: The scenarios, with their summaries.
        differences: By number of training rows, the overall score of each scenario less that of each other one.
        test_rows: Rows of test.

    Returns:
        The paragraph.
    """
    sizes = sorted(differences)
    largest = sizes[-1]
    found = _compared(scenarios, largest)
    if len(found) < 2:
        return "No advice: it takes at least two scenarios that have all tasks."
    seeds = min(len(summary.seeds) for summary in found.values())
    basis = f"{largest:,} training rows, {seeds} {'seed' if seeds == 1 else 'seeds'}, {test_rows:,} test rows"
    lines = [_advice_for(found, differences[largest], basis)]
    for size in reversed(sizes[:-1]):
        smaller = _compared(scenarios, size)
        if len(smaller) > 1:
            best, cheapest = _choose(smaller, differences[size])
            also = "" if best == cheapest else f", and {cheapest} is the cheapest that may be as good"
            lines.append(f"With {size:,} rows {best} scores highest ({_score(smaller[best])}){also}.")
    if seeds == 1:
        lines.append("With a single seed, how much the start of a training changes is not in these intervals.")
    return " ".join(lines)


def _advice_for(found: Mapping[str, Summary], differences: Differences, basis: str) -> str:
    best, cheapest = _choose(found, differences)
    rivals = [name for name in found if name != best and not _is_worse(differences, name, best)]
    lines = [f"{basis[0].upper()}{basis[1:]}: {best} scores highest ({_score(found[best])})."]
    if len(rivals) == len(found) - 1:
        lines.append(
            f"These data do not tell the scenarios apart: each of the other {len(rivals)} may be as good (95 % "
            "intervals). More test rows or seeds would be needed to choose by score."
        )
        if cheapest != best:
            lines.append(f"The cheapest is {cheapest} ({_seconds(found[cheapest])}).")
        return " ".join(lines)
    if cheapest == best:
        also = f" {_listed(rivals)} may be as good, but would not save time." if rivals else ""
        lines.append(f"Use {best} ({_seconds(found[best])}).{also}")
    else:
        gap = differences[cheapest, best]
        lines.append(
            f"{cheapest} cannot be told from it ({_interval(gap)}) and takes {_seconds(found[cheapest])} instead of "
            f"{_seconds(found[best])}: use {cheapest}."
        )
    if found[best].total_seconds > found[best].seconds:
        lines.append(f"{best} goes on from a trained model: it has trained longer than scenarios that start afresh.")
    worse = [name for name in found if name not in (best, *rivals)]
    if worse:
        lines.append(
            f"Worse than {best}, beyond chance: {_listed([_with_gap(name, best, differences) for name in worse])}."
        )
    if dominated := _dominated(found):
        lines.append(f"Both slower and no better than another on average: {_listed(dominated)}.")
    return " ".join(lines)


def _compared(scenarios: Sequence[ScenarioResult], size: int) -> dict[str, Summary]:
    """Return the scenarios that have all tasks, and so an overall score."""
    found = {scenario.name: scenario.summary_of(size) for scenario in scenarios}
    return {name: summary for name, summary in found.items() if summary is not None and summary.overall is not None}


def _choose(found: Mapping[str, Summary], differences: Differences) -> tuple[str, str]:
    """Return the scenario with the highest score, and the cheapest of those that may be as good."""
    best = max(found, key=lambda name: _mean(found[name]))
    equals = [name for name in found if name == best or not _is_worse(differences, name, best)]
    cheapest = min(equals, key=lambda name: found[name].total_seconds)
    saves = found[cheapest].total_seconds < (1 - TIME_TOLERANCE) * found[best].total_seconds
    return best, cheapest if saves else best


def _dominated(found: Mapping[str, Summary]) -> list[str]:
    return [
        name
        for name, summary in found.items()
        if any(
            _mean(other) >= _mean(summary) and other.total_seconds < (1 - TIME_TOLERANCE) * summary.total_seconds
            for other in found.values()
        )
    ]


def _is_worse(differences: Differences, name: str, best: str) -> bool:
    """Tell whether a scenario is worse than the best one beyond chance."""
    difference = differences[name, best]
    return difference is not None and difference.high < 0


def _mean(summary: Summary) -> float:
    return summary.overall.mean if summary.overall is not None else 0.0


def _score(summary: Summary) -> str:
    sd = summary.overall.sd if summary.overall is not None else None
    return f"{_mean(summary):.4f}" + ("" if sd is None else f" ± {sd:.4f}")


def _seconds(summary: Summary) -> str:
    return f"{summary.total_seconds:,.1f} s"


def _with_gap(name: str, best: str, differences: Differences) -> str:
    return f"{name} ({_interval(differences[name, best])})"


def _interval(difference: Interval | None) -> str:
    if difference is None:
        return "not compared"
    return f"{difference.mean:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
