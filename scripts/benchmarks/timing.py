"""Functions timed in turns: on a machine that does other things too, ratios within a round are what counts."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PrinterCallback, Trainer


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


def time_in_turns(functions: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run functions that time themselves in turns: A B A B.

    Args:
        functions: By name, what returns its seconds; what it does before and behind them does not count.
        repeats: Number of rounds, in each of which every function runs once.

    Returns:
        The seconds of each round by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            seconds[name].append(function())
    return seconds


def time_training(trainer: Trainer) -> float:
    """Return the seconds that a trainer's ``train`` takes."""
    trainer.remove_callback(PrinterCallback)  # the table is what is to be printed
    start = time.perf_counter()
    trainer.train()
    wait_for_device()
    return time.perf_counter() - start


def wait_for_device() -> None:
    """Wait until the accelerator, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
