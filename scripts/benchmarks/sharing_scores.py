"""Scores and time of trainings with balanced losses, gradient methods and private layers, against the plain sum."""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from transformers import pipeline

from hf_multitask.training.balancing_methods import METHODS
from hf_multitask.training.gradient_methods import TORCHJD

from .arguments import add_choices, add_data, add_encoder, add_numbers
from .defaults import FEW, INTENT, SLOTS, read_dataset, timed_training
from .intents_and_slots import read_intents_and_slots
from .sharing import AGGREGATORS
from .tables import spread

PLAIN = "none"
# Fields of the task that labels words.
FIELDS: dict[str, dict[str, Any]] = {
    **{f"private_layers: {count}": {"private_layers": count} for count in (1, 2, 4)},
    "linear": {"head": "linear", "mix_layers": False},
    "lstm": {"head": "lstm", "mix_layers": False},
    "mix_layers": {"head": "linear", "mix_layers": True},
    "lstm+mix_layers": {"head": "lstm", "mix_layers": True},
}
NAMES = (PLAIN, *METHODS, *AGGREGATORS, *FIELDS)
# Both with the settings of `EXAMPLE`, and with those that a run chooses.
MIXED, CHOSEN = "wnut17-clinc150", "wnut17-clinc150-chosen"
# Slots of some rows of SNIPS, and intents of others: the same domain, and no row in common.
APART = "snips-apart"
EXAMPLE = Path(__file__).parents[2] / "examples" / "wnut17-clinc150-private.yaml"
SCORES = {
    "snips-400": ("intent_accuracy", "slots_f1", "joint_accuracy"),
    "snips": ("intent_accuracy", "slots_f1", "joint_accuracy"),
    APART: ("slots_f1", "intent_accuracy"),
    MIXED: ("ner_f1", "intent_accuracy"),
    CHOSEN: ("ner_f1", "intent_accuracy"),
}
DATASETS = tuple(SCORES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py sharing-scores``."""
    add_data(parser, "snips, wnut17 and clinc150")
    add_encoder(parser)
    add_choices(parser, "datasets", DATASETS, "datasets")
    add_choices(parser, "methods", NAMES, "methods")
    add_numbers(parser, {"seeds": ([0, 1, 2], "random seeds")})
    parser.add_argument("--rows", type=int, default=FEW, help=f"rows of each task of {APART} (default: {FEW})")
    parser.add_argument("--epochs", type=float, help="epochs (default: those of the settings)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train each dataset with each method and seed; all else is the same."""
    runs = []
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            for method in arguments.methods:
                values = _config(arguments, dataset, method, seed)
                measure = partial(_tagged_texts, arguments.data) if dataset in (MIXED, CHOSEN) else None
                runs.append({"dataset": dataset, "method": method, "seed": seed, **timed_training(values, measure)})
                print(json.dumps(runs[-1]), flush=True)
    _print_table(arguments, runs)
    return {"benchmark": "sharing-scores", "encoder": str(arguments.encoder), "runs": runs}


def _config(arguments: argparse.Namespace, dataset: str, method: str, seed: int) -> dict[str, Any]:
    """Return the values of a config."""
    training: dict[str, Any] = {"seed": seed, "disable_tqdm": True, "report_to": "none"}
    if dataset == MIXED:
        values = read_mixed(arguments.data)
        training = {**values["training"], **training}
    elif dataset == CHOSEN:
        values = _read_both(arguments.data)
    elif dataset == APART:
        values = _read_apart(arguments.data, arguments.rows)
        training["packing"] = True
    else:
        values = read_dataset(arguments.data, dataset)
    if arguments.epochs is not None:
        training["num_train_epochs"] = arguments.epochs
    if method in FIELDS:
        for task in values["tasks"]:
            task |= FIELDS[method] if task["type"] == "token_classification" else {}
    elif method != PLAIN:
        training["loss_balancing"] = {TORCHJD: method, **AGGREGATORS[method]} if method in AGGREGATORS else method
    return {**values, "encoder": str(arguments.encoder), "training": training}


def read_mixed(folder: Path) -> dict[str, Any]:
    """Return the example of WNUT-17 and CLINC150 in mixed batches, without private layers, as in a config.

    Args:
        folder: Folder with ``wnut17`` and ``clinc150``.
    """
    values: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for task in values["tasks"]:
        task.pop("private_layers", None)
    for data in values["data"]:
        data |= {split: str(folder / data[split]) for split in ("train", "validation", "test")}
    return values


def _read_both(folder: Path) -> dict[str, Any]:
    """Return WNUT-17 and CLINC150 as in a config that names nothing but tasks and data."""
    tasks, data = [], []
    for name in ("wnut17", "clinc150"):
        values = read_dataset(folder, name)
        tasks += values["tasks"]
        data.append({"tasks": [task["name"] for task in values["tasks"]], **values["data"]})
    return {"tasks": tasks, "data": data}


def _read_apart(folder: Path, count: int) -> dict[str, Any]:
    """Return two datasets with a task each: slots of the first rows of SNIPS, intents of as many others."""
    rows, labels = read_intents_and_slots(folder / "snips")
    types = {SLOTS: "token_classification", INTENT: "sequence_classification"}
    data = []
    for number, (name, other) in enumerate(((SLOTS, INTENT), (INTENT, SLOTS))):
        of_task = {**rows, "train": rows["train"][number * count : (number + 1) * count]}
        data.append(
            {"tasks": [name], **{split: [_without(row, other) for row in of_task[split]] for split in of_task}}
        )
    tasks = [{"name": name, "type": kind, "labels": labels[name]} for name, kind in types.items()]
    return {"tasks": tasks, "data": data, "sampling": {"batches": "mixed"}}


def _without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


def _tagged_texts(data: Path, model_dir: str) -> dict[str, float]:
    """Return the share of CLINC150's texts in which a model finds entities, which it has learned from WNUT-17 only."""
    texts = pd.read_csv(data / "clinc150" / "test.csv")["text"].tolist()
    predict = pipeline("multi-task", model=model_dir)  # type: ignore[call-overload]
    return {
        "tagged_texts": statistics.mean(bool(answer["ner"]["entities"]) for answer in predict(texts, batch_size=64))
    }


def _print_table(arguments: argparse.Namespace, runs: Sequence[Mapping[str, Any]]) -> None:
    print(f"\nseeds {', '.join(map(str, arguments.seeds))}; test, mean ± sd in percent; ratio of the processor time")
    for dataset in arguments.datasets:
        time_of: dict[str, float] = {}
        for method in arguments.methods:
            found = [run for run in runs if (run["dataset"], run["method"]) == (dataset, method)]
            time_of[method] = statistics.mean(run["processor_seconds"] for run in found)
            cells = [f"{dataset:<22} {method:<18}"]
            for score in SCORES[dataset]:
                values = [100 * run["test"][score] for run in found]
                cells.append(f"{score} {spread(values)}")
            if "tagged_texts" in found[0]:
                shares = [100 * run["tagged_texts"] for run in found]
                cells.append(
                    f"CLINC150 texts with entities {statistics.mean(shares):.1f} ± {statistics.pstdev(shares):.1f}"
                )
            cells.append(f"time {time_of[method] / time_of[arguments.methods[0]]:.2f}")
            print("  ".join(cells))
