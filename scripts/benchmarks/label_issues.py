"""How many labels that were exchanged at random are found by label-issues."""

import argparse
import csv
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_multitask import RunConfig, TaskConfig
from hf_multitask.reports.label_issues import LabelRanking, rank_labels
from hf_multitask.runs import review_training_rows
from hf_multitask.training.settings import EFFORTS

from .arguments import add_choices, add_data, add_encoder, add_numbers
from .intents_and_slots import read_intents_and_slots

INTENT, SLOTS = "intent", "slots"
DATASETS = ("clinc150", "clinc150_oos", "snips")
# Share of the exchanged labels that must be in the first part of the list, and the size of this part.
RECALL_BAR, LISTED = 0.80, 0.04


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py label-issues``."""
    add_data(parser, "clinc150, clinc150_oos and snips")
    add_encoder(parser)
    add_choices(parser, "datasets", DATASETS, "datasets")
    parser.add_argument("--rows", type=int, help="number of training rows, chosen at random (default: all)")
    parser.add_argument("--effort", choices=EFFORTS, default="quick", help="effort (default: %(default)s)")
    parser.add_argument("--freeze", nargs="*", default=[], help="groups that do not train (default: none)")
    add_numbers(
        parser,
        {
            "folds": (2, "number of trainings"),
            "share": (0.02, "share of exchanged labels"),
            "seeds": ([0], "random seeds"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Exchange labels of training rows, list the labels that are most likely wrong, and count the exchanged ones."""
    runs = []
    for name in arguments.datasets:
        for seed in arguments.seeds:
            runs += _measure(arguments, name, seed)
            print("\n".join(json.dumps(run) for run in runs[-2:]), flush=True)
    print("\n" + "\n".join(table(runs)))
    settings = ("encoder", "rows", "folds", "effort", "freeze", "share")
    bars = {"recall": RECALL_BAR, "listed": LISTED}
    return {"benchmark": "label-issues", "bars": bars, **{n: getattr(arguments, n) for n in settings}, "runs": runs}


def exchange_labels(rows: Sequence[dict[str, Any]], share: float, seed: int) -> dict[str, set[int]]:
    """Exchange the labels of some rows, in place: the intent for another, and the type of an entity for another.

    Args:
        rows: Rows with ``intent``, and with ``slots`` if they have IOB2 tags.
        share: Share of the rows whose label is exchanged, by task.
        seed: Random seed.

    Returns:
        The indices of these rows by task.
    """
    generator = random.Random(seed)
    changed: dict[str, set[int]] = {}
    intents = sorted({row[INTENT] for row in rows})
    changed[INTENT] = set(generator.sample(range(len(rows)), round(share * len(rows))))
    for i in sorted(changed[INTENT]):
        rows[i][INTENT] = generator.choice([label for label in intents if label != rows[i][INTENT]])
    if SLOTS not in rows[0]:
        return changed
    types = sorted({tag[2:] for row in rows for tag in row[SLOTS] if tag != "O"})
    having = [i for i, row in enumerate(rows) if any(tag != "O" for tag in row[SLOTS])]
    changed[SLOTS] = set(generator.sample(having, round(share * len(rows))))
    for i in sorted(changed[SLOTS]):
        tags = rows[i][SLOTS]
        start = generator.choice([j for j, tag in enumerate(tags) if tag.startswith("B-")])
        kind = generator.choice([label for label in types if label != tags[start][2:]])
        end = next((j for j in range(start + 1, len(tags)) if not tags[j].startswith("I-")), len(tags))
        rows[i][SLOTS] = [*tags[:start], f"B-{kind}", *[f"I-{kind}"] * (end - start - 1), *tags[end:]]
    return changed


def found(ranking: LabelRanking, exchanged: set[int]) -> dict[str, float]:
    """Return how many of the exchanged labels are at the start of the list, and among the listed rows.

    Args:
        ranking: Ranking of the rows.
        exchanged: Indices of the rows whose label was exchanged.
    """
    first = set(ranking.rows[: round(LISTED * len(ranking.rows))].tolist())
    listed = set(ranking.rows[ranking.is_issue].tolist())
    return {
        "rows": len(ranking.rows),
        "exchanged": len(exchanged),
        "in_first_part": len(first & exchanged) / len(exchanged),
        "listed": len(listed),
        "recall": len(listed & exchanged) / len(exchanged),
        "precision": len(listed & exchanged) / max(len(listed), 1),
    }


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of the measurements.

    Args:
        runs: The measurements.
    """
    header = [
        "data",
        "task",
        "seed",
        "rows",
        "exchanged",
        "in the first 4 %",
        "listed",
        "of them exchanged",
        "minutes",
    ]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for run in runs:
        shares = [f"{100 * run[name]:.1f} %" for name in ("in_first_part", "precision")]
        cells = [run["data"], run["task"], run["seed"], run["rows"], run["exchanged"], shares[0], run["listed"]]
        lines.append(f"| {' | '.join(map(str, [*cells, shares[1], round(run['processor_minutes'], 1)]))} |")
    return lines


def _measure(arguments: argparse.Namespace, name: str, seed: int) -> list[dict[str, Any]]:
    rows = _read(arguments.data / name)
    random.Random(seed).shuffle(rows)
    rows = rows[: arguments.rows]
    exchanged = exchange_labels(rows, arguments.share, seed)
    tasks = [TaskConfig(INTENT, "sequence_classification")]
    if SLOTS in exchanged:
        tasks.append(TaskConfig(SLOTS, "token_classification"))
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.from_dict(
            {
                "encoder": arguments.encoder,
                "tasks": [{"name": task.name, "type": task.type} for task in tasks],
                "data": {"train": rows},
                "effort": arguments.effort,
                "freeze": list(arguments.freeze) or "none",
                "training": {"seed": seed, "disable_tqdm": True, "logging_steps": 100},
                "output_dir": folder,
            }
        )
        start = time.process_time()
        review = review_training_rows(config, arguments.folds)
        minutes = (time.process_time() - start) / 60
    return [
        {
            "data": name,
            "task": task.name,
            "seed": seed,
            **found(rank_labels(task, review.result), exchanged[task.name]),
            "processor_minutes": minutes,
        }
        for task in review.tasks
    ]


def _read(folder: Path) -> list[dict[str, Any]]:
    if (folder / "train.jsonl").is_file():
        return read_intents_and_slots(folder)[0]["train"]
    with (folder / "train.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
