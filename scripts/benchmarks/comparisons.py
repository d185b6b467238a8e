"""Comparisons of runs that are taken in turns, with the ratio that each should reach."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .timing import time_in_turns


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs on the same rows for the same number of epochs.

    Args:
        name: Name of the comparison in the table.
        setting: Name of the `Setting` that contains both runs.
        ours: Name of the run under test.
        base: Name of the run that it is compared with.
        bar: Minimum ratio of the speed of ``ours`` to the speed of ``base``.
    """

    name: str
    setting: str
    ours: str
    base: str
    bar: float


@dataclass(frozen=True)
class TimedRun:
    """A run that times itself.

    Args:
        time: Function from a number of epochs to seconds.
        measured_epochs: Number of epochs to run if every epoch costs the same; the seconds are then scaled to the
            epochs of the setting. If None, all epochs are run.
    """

    time: Callable[[int], float]
    measured_epochs: int | None = None


@dataclass(frozen=True)
class Setting:
    """Runs that do the same work in different ways.

    Args:
        epochs: Number of epochs of each run.
        runs: The runs by name.
    """

    epochs: int
    runs: Mapping[str, TimedRun]


def run_settings(
    settings: Mapping[str, Setting], comparisons: Sequence[Comparison], rows: int, repeats: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Run what the comparisons need, taking the runs of a setting in turns, and print the results of each setting.

    Args:
        settings: The settings by name.
        comparisons: The comparisons.
        rows: Number of rows per epoch.
        repeats: Number of rounds.

    Returns:
        By setting and run: ``seconds`` (the median), ``examples_per_second``, ``all_seconds`` of the rounds,
        ``epochs`` and, if fewer were run and the seconds scaled, ``measured_epochs``.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name, setting in settings.items():
        names = [
            run
            for comparison in comparisons
            if comparison.setting == name
            for run in (comparison.base, comparison.ours)
        ]
        if names:
            results[name] = _run_setting(setting, dict.fromkeys(names), rows, repeats)
            _print_runs(name, results[name])
    return results


def _run_setting(setting: Setting, names: Iterable[str], rows: int, repeats: int) -> dict[str, dict[str, Any]]:
    measured = {name: min(setting.runs[name].measured_epochs or setting.epochs, setting.epochs) for name in names}

    def timer(name: str) -> Callable[[], float]:
        return lambda: setting.runs[name].time(measured[name]) * setting.epochs / measured[name]

    results = {}
    for name, seconds in time_in_turns({name: timer(name) for name in measured}, repeats).items():
        median = statistics.median(seconds)
        results[name] = {
            "seconds": median,
            "examples_per_second": rows * setting.epochs / median,
            "all_seconds": seconds,
            "epochs": setting.epochs,
        }
        if measured[name] < setting.epochs:
            results[name]["measured_epochs"] = measured[name]
    return results


def _print_runs(setting: str, runs: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{setting:<24}{'epochs':>8}{'seconds':>10}{'examples/s':>12}")
    for name, run in runs.items():
        measured = run.get("measured_epochs")
        note = f"  {measured} epochs measured, scaled to {run['epochs']}" if measured else ""
        print(
            f"{name:<24}{run['epochs']:>8}{run['seconds']:>10.2f}{run['examples_per_second']:>12.1f}{note}", flush=True
        )


def compare_runs(
    comparisons: Sequence[Comparison], results: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Compare the results of `run_settings`.

    Args:
        comparisons: The comparisons.
        results: Results by setting and run.

    Returns:
        For each comparison its names, the ``ratio`` of the speeds (the median over the rounds), all ``ratios``, the
        ``bar``, whether it ``passed``, and whether the seconds of its base were ``scaled``.
    """
    lines = []
    for one in comparisons:
        ours, base = results[one.setting][one.ours], results[one.setting][one.base]
        ratios = [theirs / own for own, theirs in zip(ours["all_seconds"], base["all_seconds"], strict=True)]
        ratio = statistics.median(ratios)
        lines.append(
            {
                "name": one.name,
                "setting": one.setting,
                "ours": one.ours,
                "base": one.base,
                "ours_examples_per_second": ours["examples_per_second"],
                "base_examples_per_second": base["examples_per_second"],
                "ratio": ratio,
                "ratios": ratios,
                "bar": one.bar,
                "bar_is": "at least",
                "passed": ratio >= one.bar,
                "scaled": "measured_epochs" in base,
            }
        )
    return lines
