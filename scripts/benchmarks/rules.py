"""Usual advice on how much to unfreeze with how many rows, checked by training."""

import argparse
import json
import math
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import add_data, add_encoder, add_numbers
from .intents_and_slots import Rows, read_intents_and_slots, train_intents_and_slots
from .tables import markdown_line

FREEZES = {
    "encoder": "encoder frozen",
    "top:2": "two upper layers",
    "heads-then-all": "heads, then all",
    "none": "nothing frozen",
}
SCORES = {"intent_accuracy": "intent accuracy", "slots_f1": "slot F1"}
BATCH_SIZE = 16


@dataclass(frozen=True)
class Advice:
    """Usual advice up to a number of rows.

    Args:
        max_rows: Maximum number of rows that the advice is for.
        freeze: Advised freeze schedule, as in a config.
    """

    max_rows: float
    freeze: str


USUAL_ADVICE = (Advice(99, "encoder"), Advice(1000, "top:2"), Advice(math.inf, "none"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py rules``."""
    add_data(parser)
    add_encoder(parser)
    parser.add_argument(
        "--freeze", nargs="+", default=list(FREEZES), help=f"freeze schedules (default: {' '.join(FREEZES)})"
    )
    add_numbers(
        parser,
        {
            "sizes": ([50, 100, 500, 1000], "numbers of training rows"),
            "seeds": ([0, 1], "random seeds"),
            "least-steps": (160, "minimum number of steps of a run"),
            "least-epochs": (4, "minimum number of epochs of a run"),
            "learning-rate": (3e-4, "learning rate of the encoder"),
            "head-learning-rate": (2e-3, "learning rate of the heads"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with each number of rows, freeze schedule and seed, and score test once at the end of each run."""
    rows, labels = read_intents_and_slots(arguments.data)
    runs = []
    for seed in arguments.seeds:
        for size in arguments.sizes:
            # The same rows for all schedules, other rows for each seed.
            train = random.Random(seed).sample(rows["train"], size)
            for freeze in arguments.freeze:
                runs.append({"rows": size, "freeze": freeze, "seed": seed})
                runs[-1] |= _train(arguments, freeze, seed, {"train": train, "test": rows["test"]}, labels)
                print(json.dumps(runs[-1]), flush=True)
    print("\n" + "\n".join(table(runs)))
    settings = ("encoder", "learning_rate", "head_learning_rate", "least_steps", "least_epochs")
    return {"benchmark": "rules", **{name: getattr(arguments, name) for name in settings}, "runs": runs}


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of the scores with each schedule, and whether the usual advice holds.

    It holds if the advised schedule is best, or if the best one on average is not better with every seed.

    Args:
        runs: The runs, each with ``rows``, ``freeze``, ``seed`` and ``test`` scores.

    Returns:
        Lines of the table.
    """
    names = list(dict.fromkeys(run["freeze"] for run in runs))
    header = ["rows", "score on test", *(FREEZES.get(name, name) for name in names), "usual advice", "holds"]
    lines = [markdown_line(header), markdown_line(["---"] * len(header))]
    for size in dict.fromkeys(run["rows"] for run in runs):
        advised = next(advice.freeze for advice in USUAL_ADVICE if size <= advice.max_rows)
        for score, title in SCORES.items():
            by_seed = {
                name: [100 * run["test"][score] for run in runs if (run["rows"], run["freeze"]) == (size, name)]
                for name in names
            }
            cells = [f"{statistics.mean(seeds):.1f} ± {statistics.pstdev(seeds):.1f}" for seeds in by_seed.values()]
            verdict = _verdict(by_seed, advised)
            lines.append(markdown_line([f"{size:,}", title, *cells, FREEZES.get(advised, advised), verdict]))
    return lines


def _verdict(by_seed: Mapping[str, Sequence[float]], advised: str) -> str:
    if advised not in by_seed:
        return "not run"
    best = max(by_seed, key=lambda name: statistics.mean(by_seed[name]))
    gains = [better - worse for better, worse in zip(by_seed[best], by_seed[advised], strict=True)]
    if min(gains) <= 0:
        return "yes"
    return f"no: {FREEZES.get(best, best)} +{statistics.mean(gains):.1f}"


def _train(
    arguments: argparse.Namespace, freeze: str, seed: int, rows: Rows, labels: Mapping[str, list[str]]
) -> dict[str, Any]:
    steps_per_epoch = math.ceil(len(rows["train"]) / BATCH_SIZE)
    epochs = max(arguments.least_epochs, math.ceil(arguments.least_steps / steps_per_epoch))
    training = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": BATCH_SIZE,
        "seed": seed,
        "save_strategy": "no",
    }
    with tempfile.TemporaryDirectory() as folder:
        return {"epochs": epochs, **train_intents_and_slots(arguments, folder, rows, labels, training, freeze)}
