"""Speed of training compared with baselines that users would write without this library, and with a bare loop.

The settings: ``joint`` trains the whole model for one epoch. ``heads``, ``top_layers`` and ``gradual`` train the
heads, two more layers, and one more layer per epoch, for 10, 5 and 6 epochs, including the time of filling the
activation cache. ``heads_stored`` trains the heads for 10 epochs from an existing cache. ``bare_loop`` uses torch's
dropout, ``bare_loop_quick`` the dropout of this library.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_multitask.freezing import FreezeSpec

from .arguments import add_encoder, add_numbers
from .bare_loop import BareLoop
from .comparisons import Comparison, Setting, TimedRun, compare_runs, run_settings
from .machine import machine_facts
from .our_trainer import gradual_schedule, logged_losses, time_joint_training, time_staged_training
from .peak_memory import peak_of_heads_training
from .plain_trainers import JointModuleTrainer, SingleTaskTrainers
from .tasknet_runner import TasknetRunner
from .workload import Workload, make_workload, read_rows, silence_libraries

HEADS_EPOCHS, TOP_EPOCHS, GRADUAL_EPOCHS = 10, 5, 6
TOP_LAYERS = 2
# Every epoch of a plain trainer with the same trainable layers costs the same, so that only some are run.
MEASURED_EPOCHS = 2
BF16 = {"bf16": True, "store_dtype": "bfloat16"}

COMPARISONS = (
    Comparison("joint", "joint", "ours", "single_task_trainers", 3.0),
    Comparison("joint_bf16", "joint", "ours_bf16", "single_task_trainers", 4.0),
    Comparison("heads", "heads", "ours", "joint_module", 12.0),
    Comparison("heads_bf16_store", "heads", "ours_bf16_store", "joint_module", 18.0),
    Comparison("top_layers", "top_layers", "ours", "joint_module", 1.9),
    Comparison("top_layers_bf16", "top_layers", "ours_bf16", "joint_module", 2.5),
    Comparison("gradual", "gradual", "ours", "joint_module", 1.6),
    Comparison("gradual_bf16", "gradual", "ours_bf16", "joint_module", 2.2),
    Comparison("joint_limit", "joint", "ours", "bare_loop", 0.9),
    Comparison("joint_limit_quick", "joint", "ours", "bare_loop_quick", 0.9),
    Comparison("heads_limit", "heads_stored", "ours", "bare_loop", 0.5),
    Comparison("heads_limit_quick", "heads_stored", "ours", "bare_loop_quick", 0.5),
    Comparison("tasknet", "joint", "ours", "tasknet", 3.0),
)
MEMORY, LOSSES = "memory", "losses"
MEMORY_BAR, MEMORY_FACTOR = 1.1, 10
LOSSES_BAR = 1e-4
MEASUREMENTS = (*(comparison.name for comparison in COMPARISONS), MEMORY, LOSSES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py speed``."""
    parser.add_argument("--data", type=Path, help="folder with train.jsonl (default: generated rows)")
    add_encoder(parser, "an encoder like BERT")
    add_numbers(
        parser,
        {
            "rows": (4000, "rows per epoch"),
            "batch-size": (32, "rows per step"),
            "repeats": (5, "rounds of each setting"),
            "threads": (os.cpu_count() or 1, "number of torch threads"),
        },
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=MEASUREMENTS,
        metavar="NAME",
        help=f"measurements: {', '.join(MEASUREMENTS)} (default: all)",
    )
    parser.add_argument(
        "--full", action="store_true", help="run all epochs of plain trainers, even if every epoch costs the same"
    )
    parser.add_argument(
        "--store-frozen",
        default="auto",
        choices=["auto", "always", "never"],
        help="whether to cache the states of frozen layers (default: %(default)s)",
    )
    parser.add_argument("--tasknet-python", type=Path, help="Python of an environment with tasknet")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="device (default: %(default)s)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare training speed, memory by number of rows, and losses with and without activation cache."""
    silence_libraries()
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        return _measure(arguments)
    finally:
        torch.set_num_threads(threads)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    names = arguments.only or MEASUREMENTS
    skipped = {"tasknet"} if arguments.tasknet_python is None else set()
    comparisons = [
        comparison for comparison in COMPARISONS if comparison.name in names and comparison.name not in skipped
    ]
    rows = read_rows(arguments.data, arguments.rows)
    work = make_workload(arguments.encoder, rows, arguments.batch_size, arguments.device)
    facts = machine_facts()
    print(f"{facts['processor']}, {facts['threads']} threads; {len(rows):,} rows, {arguments.repeats} rounds in turns")
    tasknet = None if arguments.tasknet_python is None else TasknetRunner(work, arguments.tasknet_python)
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(work, arguments, Path(folder), tasknet)
        runs = run_settings(settings, comparisons, len(rows), arguments.repeats)
    lines = compare_runs(comparisons, runs)
    if MEMORY in names:
        lines.append(_compare_memory(work, arguments.data))
    if LOSSES in names:
        lines.append(_compare_losses(work))
    _print_lines(lines)
    for name in skipped.intersection(names):
        print(f"{name}: left out, because --tasknet-python is not given")
    return {
        "benchmark": "speed",
        "machine": facts,
        "encoder": str(arguments.encoder),
        "data": None if arguments.data is None else str(arguments.data),
        "rows": len(rows),
        "batch_size": arguments.batch_size,
        "device": arguments.device,
        "repeats": arguments.repeats,
        "store_frozen": arguments.store_frozen,
        "tasknet": None if tasknet is None else tasknet.versions,
        "left_out": sorted(skipped.intersection(names)),
        "runs": runs,
        "comparisons": lines,
    }


def _settings(
    work: Workload, arguments: argparse.Namespace, folder: Path, tasknet: TasknetRunner | None
) -> dict[str, Setting]:
    """Return the settings by name. The activation cache in ``folder`` is kept between runs."""
    bare_loop, joint_module = BareLoop(work), JointModuleTrainer(work)
    quick_loop = BareLoop(work, quick_dropout=True)
    measured = None if arguments.full else MEASURED_EPOCHS
    auto = {"store_frozen": arguments.store_frozen}
    joint = {
        "single_task_trainers": TimedRun(SingleTaskTrainers(work).time),
        "ours": TimedRun(lambda epochs: time_joint_training(work, epochs)),
        "ours_bf16": TimedRun(lambda epochs: time_joint_training(work, epochs, bf16=True)),
        "bare_loop": TimedRun(bare_loop.time),
        "bare_loop_quick": TimedRun(quick_loop.time),
    }
    if tasknet is not None:
        joint["tasknet"] = TimedRun(tasknet.time)

    def staged(schedule: FreezeSpec, **options: Any) -> TimedRun:
        return TimedRun(lambda epochs: time_staged_training(work, epochs, schedule, **auto, **options))

    def from_cache(epochs: int) -> float:
        store = folder / "store"
        if not store.exists():
            time_staged_training(work, 1, "encoder", store, store_frozen="always")
        return time_staged_training(work, epochs, "encoder", store, store_frozen="always")

    gradual = gradual_schedule(work.num_layers, GRADUAL_EPOCHS)
    top = f"top:{TOP_LAYERS}"
    return {
        "joint": Setting(1, joint),
        "heads": Setting(
            HEADS_EPOCHS,
            {
                "joint_module": TimedRun(joint_module.time, measured),
                "ours": staged("encoder"),
                "ours_bf16_store": staged("encoder", store_dtype="bfloat16"),
            },
        ),
        "top_layers": Setting(
            TOP_EPOCHS,
            {
                "joint_module": TimedRun(lambda epochs: joint_module.time(epochs, TOP_LAYERS), measured),
                "ours": staged(top),
                "ours_bf16": staged(top, **BF16),
            },
        ),
        "gradual": Setting(
            GRADUAL_EPOCHS,
            {
                "joint_module": TimedRun(lambda epochs: joint_module.time(epochs, None)),
                "ours": staged(gradual),
                "ours_bf16": staged(gradual, **BF16),
            },
        ),
        "heads_stored": Setting(
            HEADS_EPOCHS,
            {
                "bare_loop": TimedRun(bare_loop.time_heads),
                "bare_loop_quick": TimedRun(quick_loop.time_heads),
                "ours": TimedRun(from_cache),
            },
        ),
    }


def _compare_memory(work: Workload, data: Path | None) -> dict[str, Any]:
    """Compare the peak memory of training the heads on 10 times the rows with the peak on the rows."""
    print(f"{MEMORY}: heads on {len(work.rows):,} rows and on {MEMORY_FACTOR} times the rows", flush=True)
    more = make_workload(work.encoder, read_rows(data, len(work.rows) * MEMORY_FACTOR), work.batch_size)
    peaks = [peak_of_heads_training(workload) for workload in (work, more)]
    ratio = peaks[1] / peaks[0]
    return {
        "name": MEMORY,
        "rows": [len(work.rows), len(more.rows)],
        "peak_mib": peaks,
        "ratio": ratio,
        "bar": MEMORY_BAR,
        "bar_is": "at most",
        "passed": ratio <= MEMORY_BAR,
    }


def _compare_losses(work: Workload) -> dict[str, Any]:
    """Compare the losses of each step with and without activation cache."""
    print(f"{LOSSES}: with and without activation cache", flush=True)
    schedules: dict[str, tuple[FreezeSpec, int]] = {
        "heads": ("encoder", MEASURED_EPOCHS),
        "gradual": (gradual_schedule(work.num_layers, GRADUAL_EPOCHS), GRADUAL_EPOCHS),
    }
    differences = {}
    for name, (schedule, epochs) in schedules.items():
        stored, computed = (logged_losses(work, epochs, schedule, store) for store in ("always", "never"))
        differences[name] = _largest_difference(stored, computed)
    largest = max(differences.values())
    return {
        "name": LOSSES,
        "by_schedule": differences,
        "ratio": largest,
        "bar": LOSSES_BAR,
        "bar_is": "at most",
        "passed": largest <= LOSSES_BAR,
    }


def _largest_difference(values: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest relative difference between values and expected values."""
    return max(abs(value - other) / abs(other) for value, other in zip(values, expected, strict=True))


def _print_lines(lines: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'measurement':<20}{'against':<22}{'ratio':>10}{'bar':>12}")
    for line in lines:
        sign = ">=" if line["bar_is"] == "at least" else "<="
        against = line.get("base", "") + (" (scaled)" if line.get("scaled") else "")
        verdict = "" if line["passed"] else "  missed"
        print(f"{line['name']:<20}{against:<22}{line['ratio']:>10.3g}{sign:>5} {line['bar']:<6g}{verdict}")
