"""Functions timed in turns: if a machine runs other programs too, only ratios within a round are comparable."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# Steps that compile kernels, allocate memory, start workers and fill caches.
WARM_UP_STEPS = 5


def compare(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, Any]]:
    """Time functions in turns and compare each with the first.

    Args:
        functions: Functions by name.
        repeats: Number of rounds. Every function runs once per round.

    Returns:
        By name: ``seconds`` (the median); ``ratio`` and ``cpu_ratio``, the medians over the rounds of the time and of
        the processor time, each divided by that of the first function; and ``runs``, both times of every round.
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
    """Print the result of `compare`."""
    print(f"\n{title}")
    print(f"{'':<28}{'seconds':>10}{'ratio':>10}{'of CPU':>10}")
    for name, line in lines.items():
        print(f"{name:<28}{line['seconds']:10.2f}{line['ratio']:10.2f}{line['cpu_ratio']:10.2f}")


def time_in_turns(functions: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run functions that time themselves in turns: A B A B.

    Args:
        functions: Functions by name. Each returns its seconds, without the time of setting up and cleaning up.
        repeats: Number of rounds. Every function runs once per round.

    Returns:
        Seconds of each round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            seconds[name].append(function())
    return seconds


def time_training(trainer: Trainer) -> float:
    """Return the seconds of a trainer's ``train``."""
    trainer.remove_callback(PrinterCallback)  # only the table is printed
    start = time.perf_counter()
    trainer.train()
    wait_for_device()
    return time.perf_counter() - start


class _StepClock(TrainerCallback):
    """Measures the time of the steps after the first ones."""

    def __init__(self) -> None:
        self.start, self.seconds = 0.0, 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock after the last step of the warm-up, and read it after the last step."""
        warm_up = warm_up_steps(state.max_steps)
        if state.global_step == warm_up:
            wait_for_device()
            self.start = time.perf_counter()
        if state.global_step == state.max_steps:
            wait_for_device()
            self.seconds = (time.perf_counter() - self.start) / (state.max_steps - warm_up)


def warm_up_steps(steps: int) -> int:
    """Return the number of steps that do not count: `WARM_UP_STEPS`, at most half of a training."""
    return min(WARM_UP_STEPS, steps // 2)


def time_steps(trainer: Trainer) -> float:
    """Return the seconds per step of a trainer's ``train``, without the first steps. It needs two steps."""
    trainer.remove_callback(PrinterCallback)
    clock = _StepClock()
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds


def wait_for_device() -> None:
    """Wait until the accelerator, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
