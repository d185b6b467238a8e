"""Scores, time, file size and forgetting of LoRA adapters, compared with training the encoder's weights."""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .arguments import add_choices, add_data, add_encoder, add_numbers
from .defaults import INTENT, SCORES, read_dataset, timed_training
from .tables import markdown_line, spread

# Keys of the config by method.
METHODS: dict[str, dict[str, Any]] = {
    "everything": {},
    "lora": {"lora": {}},
    "top:2": {"freeze": "top:2"},
    "lora:top:2": {"lora": {"layers": "encoder[-2:]"}},
}
DATASETS = ("snips", "wnut17")
# What a frozen encoder knows of another dataset before and after a training: accuracy of heads on it.
OTHER, KNOWN = "clinc150", "clinc150_accuracy"
UNTRAINED = "untrained"
BYTES_PER_MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py lora``."""
    add_data(parser, "snips, wnut17 and clinc150")
    add_encoder(parser)
    add_choices(parser, "datasets", DATASETS, "datasets")
    add_choices(parser, "methods", tuple(METHODS), "what trains besides the heads")
    add_numbers(parser, {"seeds": ([0, 1, 2], "random seeds")})
    parser.add_argument("--rows", type=int, help="training rows of snips (default: all)")
    parser.add_argument("--forgetting", action="store_true", help="train heads for clinc150 on each encoder too")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train each dataset with each method and seed, and nothing else given."""
    runs = []
    before = {
        seed: _accuracy_of_heads(arguments, arguments.encoder, seed)
        for seed in arguments.seeds
        if arguments.forgetting
    }
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            if seed in before:
                runs.append({"dataset": dataset, "method": UNTRAINED, "seed": seed, KNOWN: before[seed]})
            for method in arguments.methods:
                found = _train(arguments, dataset, method, seed)
                runs.append({"dataset": dataset, "method": method, "seed": seed, **found})
                print(json.dumps(runs[-1]), flush=True)
    _print_table(runs)
    return {"benchmark": "lora", "encoder": str(arguments.encoder), "rows": arguments.rows, "runs": runs}


def _train(arguments: argparse.Namespace, dataset: str, method: str, seed: int) -> dict[str, Any]:
    values = read_dataset(arguments.data, dataset)
    if dataset == "snips" and arguments.rows is not None:
        values["data"]["train"] = values["data"]["train"][: arguments.rows]

    def measure(folder: str) -> dict[str, float]:
        weights = [file for file in Path(folder).rglob("*.safetensors") if PREFIX_CHECKPOINT_DIR not in str(file)]
        found = {"mib": sum(file.stat().st_size for file in weights) / BYTES_PER_MIB}
        if arguments.forgetting:
            found[KNOWN] = _accuracy_of_heads(arguments, folder, seed)
        return found

    training = {"seed": seed, "disable_tqdm": True}
    values = {"encoder": str(arguments.encoder), **values, **METHODS[method], "training": training}
    return timed_training(values, measure)


def _accuracy_of_heads(arguments: argparse.Namespace, encoder: str, seed: int) -> float:
    """Train a head for the other dataset on a frozen encoder, and return its accuracy on test."""
    # A name that no head of the encoder's model has: heads of the same name are taken over.
    task = {"name": OTHER, "type": "sequence_classification", "column": INTENT}
    values = {"encoder": str(encoder), "tasks": [task], "data": read_dataset(arguments.data, OTHER)["data"]}
    metrics = timed_training({**values, "freeze": "encoder", "training": {"seed": seed, "disable_tqdm": True}})
    return float(metrics["test"][KNOWN])


def _print_table(runs: Sequence[Mapping[str, Any]]) -> None:
    """Print mean and standard deviation over the seeds, in percent, with processor time and size of the weights."""
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        scores = SCORES[dataset]
        print("\n" + markdown_line([dataset, *scores, KNOWN, "processor time", "saved weights"]))
        for method in dict.fromkeys(run["method"] for run in runs if run["dataset"] == dataset):
            found = [run for run in runs if (run["dataset"], run["method"]) == (dataset, method)]
            cells = [method]
            if method == UNTRAINED:
                cells += [""] * len(scores)
            else:
                cells += [spread([100 * run["test"][score] for run in found]) for score in scores]
            cells.append(spread([100 * run[KNOWN] for run in found]) if KNOWN in found[0] else "")
            if method != UNTRAINED:
                cells.append(f"{statistics.mean(run['processor_seconds'] for run in found):.0f} s")
                cells.append(f"{found[0]['mib']:.1f} MiB")
            print(markdown_line(cells))
