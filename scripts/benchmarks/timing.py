"""Functions timed in turns: on a machine that does other things too, ratios within a round are what counts."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def compare(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, Any]]:
    """Time functions in turns and compare each with the first.

    Args:
        functions: What to run, by name.
        repeats: Number of rounds, in each of which every function runs once.

    Returns:
        By name ``seconds`` (the median), ``ratio`` and ``cpu_ratio``: the median over the rounds of the time, and of
        the processor's time, by that of the first function; and all ``runs``, each the two times.
    """
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            start, cpu_start = time.perf_counter(), time.process_time()
            function()
            runs[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    base = runs[next(iter(functions))]
    return {
        name: {
            "seconds": statistics.median(seconds for seconds, _ in times),
            "ratio": statistics.median(run[0] / first[0] for run, first in zip(times, base, strict=True)),
            "cpu_ratio": statistics.median(run[1] / first[1] for run, first in zip(times, base, strict=True)),
            "runs": times,
        }
        for name, times in runs.items()
    }


def print_table(title: str, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what `compare` returns."""
    print(f"\n{title}")
    print(f"{'':<28}{'seconds':>10}{'ratio':>10}{'of CPU':>10}")
    for name, line in lines.items():
        print(f"{name:<28}{line['seconds']:10.2f}{line['ratio']:10.2f}{line['cpu_ratio']:10.2f}")
