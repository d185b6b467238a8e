"""Growth of training time and cache size with rows, tokens and layers, on random weights and tokens."""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import add_numbers
from .machine import machine_facts
from .our_trainer import time_joint_training, time_staged_training
from .random_workload import EncoderShape, random_workload
from .timing import time_in_turns
from .workload import Workload, silence_libraries

HIDDEN_SIZE = 384  # of all-MiniLM-L6-v2
BATCH_SIZE = 32
MIB = 2**20


@dataclass(frozen=True)
class Size:
    """Size of a workload.

    Args:
        rows: Number of rows per epoch.
        length: Number of tokens per row.
        layers: Number of layers of the encoder.
    """

    rows: int
    length: int
    layers: int


SIZES = (
    *(Size(rows, 16, 6) for rows in (500, 1000, 2000)),
    *(Size(250, length, 6) for length in (16, 32, 64, 128)),
    *(Size(500, 16, layers) for layers in (2, 12)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py growth``."""
    add_numbers(parser, {"repeats": (3, "rounds at each size")})


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time, at several sizes, an epoch of joint training, filling the activation cache, and an epoch of the heads."""
    silence_libraries()
    lines = []
    print(f"{'rows':>8}{'tokens':>8}{'layers':>8}{'all, s':>10}{'cache, s':>10}{'heads, s':>10}{'cache, MiB':>12}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            shape = EncoderShape(size.layers, HIDDEN_SIZE)
            work = random_workload(Path(folder, "encoder"), shape, size.rows, size.length, BATCH_SIZE)
            lines.append({**vars(size), **_measure(work, Path(folder, "store"), arguments.repeats)})
        line = lines[-1]
        times = "".join(f"{line[name]:>10.2f}" for name in ("joint_seconds", "build_seconds", "heads_seconds"))
        print(f"{size.rows:>8,}{size.length:>8}{size.layers:>8}{times}{line['store_mib']:>12.1f}", flush=True)
    return {"benchmark": "growth", "machine": machine_facts(), "hidden_size": HIDDEN_SIZE, "sizes": lines}


def _measure(work: Workload, store: Path, repeats: int) -> dict[str, float]:
    def heads(folder: Path | None) -> float:
        return time_staged_training(work, 1, "encoder", folder, store_frozen="always")

    heads(store)  # fills the cache for the timed runs
    seconds = time_in_turns(
        {"joint": lambda: time_joint_training(work, 1), "both": lambda: heads(None), "heads": lambda: heads(store)},
        repeats,
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "joint_seconds": medians["joint"],
        "build_seconds": medians["both"] - medians["heads"],
        "heads_seconds": medians["heads"],
        "store_mib": sum(path.stat().st_size for path in store.rglob("*.states")) / MIB,
    }
