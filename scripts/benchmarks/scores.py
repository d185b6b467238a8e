"""Scores of joint training on intents and slots, by kind of head, decoding and training."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from .arguments import add_data, add_encoder, add_numbers
from .intents_and_slots import Rows, read_intents_and_slots, train_intents_and_slots
from .slot_mistakes import slot_mistakes
from .tables import spread

SCORES = ("intent_accuracy", "slots_f1", "joint_accuracy")
BASE = "constrained"
# Changes of each variant to the data, the tasks, the training and its stages.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    BASE: {},
    "plain": {"slots": {"constrained_decoding": False}},
    "crf": {"slots": {"crf": True}},
    "lstm": {"slots": {"head": "lstm"}},
    "mix_layers": {"slots": {"mix_layers": True}},
    "smoothing": {"intent": {"label_smoothing": 0.1}, "slots": {"label_smoothing": 0.1}},
    "slots_smoothing": {"slots": {"label_smoothing": 0.1}},
    "all_subwords": {"data": {"label_subwords": "all"}},
    "ema": {"training": {"ema_decay": 0.95}},
    "layer_lr_decay": {"freeze": {"stages": [{"name": "all", "layer_lr_decay": 0.85}]}},
}


def variant(text: str) -> str:
    """Parse the name of a variant: one of `VARIANTS`, or several joined by ``+``."""
    for name in text.split("+"):
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(f"unknown variant {name!r}; allowed: {', '.join(VARIANTS)}")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py scores``."""
    add_data(parser)
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "epochs": (6, "epochs"),
            "learning-rate": (3e-4, "learning rate of the encoder"),
            "head-learning-rate": (2e-3, "learning rate of the heads"),
            "batch-size": (32, "rows per step"),
            "seeds": ([0, 1, 2], "random seeds"),
        },
    )
    parser.add_argument("--train-rows", type=int, help="train on the first n rows (default: all)")
    parser.add_argument(
        "--variants",
        type=variant,
        nargs="+",
        default=[BASE],
        metavar="NAME",
        help=f"{', '.join(VARIANTS)}, or several joined by + (default: {BASE})",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train both heads with each variant and seed. The epoch is chosen on validation."""
    rows, labels = read_intents_and_slots(arguments.data)
    rows["train"] = rows["train"][: arguments.train_rows]
    runs = []
    for name in arguments.variants:
        for seed in arguments.seeds:
            runs.append({"variant": name, "seed": seed, **_train(arguments, name, seed, rows, labels)})
            print(json.dumps(runs[-1]), flush=True)
    _print_tables(arguments, runs, len(rows["train"]))
    settings = ("encoder", "epochs", "learning_rate", "head_learning_rate", "batch_size")
    return {
        "benchmark": "scores",
        **{name: getattr(arguments, name) for name in settings},
        "train_rows": len(rows["train"]),
        "runs": runs,
    }


def _train(
    arguments: argparse.Namespace, name: str, seed: int, rows: Rows, labels: Mapping[str, list[str]]
) -> dict[str, Any]:
    changes: dict[str, dict[str, Any]] = {"data": {}, "intent": {}, "slots": {}, "training": {}, "freeze": {}}
    for part in name.split("+"):
        for section, values in VARIANTS[part].items():
            changes[section] |= values
    training = {
        "num_train_epochs": arguments.epochs,
        "per_device_train_batch_size": arguments.batch_size,
        "seed": seed,
        **changes["training"],
    }
    freeze = changes["freeze"] or "none"
    data = {**rows, **changes["data"]}
    with tempfile.TemporaryDirectory() as folder:
        metrics = train_intents_and_slots(
            arguments, folder, data, labels, training, freeze, changes["intent"], changes["slots"]
        )
        return {**metrics, "slot_mistakes": slot_mistakes(folder, rows["train"], rows["test"])}


def _print_tables(arguments: argparse.Namespace, runs: Sequence[Mapping[str, Any]], train_rows: int) -> None:
    print(
        f"\n{train_rows:,} training rows, {arguments.epochs} epochs, seeds {', '.join(map(str, arguments.seeds))}; "
        "scores of the epoch that validation chose, mean ± sd"
    )
    width = max(len("variant"), *(len(name) for name in arguments.variants))
    for split in ("validation", "test"):
        print(f"\n{split}\n{'variant':<{width}}" + "".join(f"{score:>18}" for score in SCORES))
        for name in dict.fromkeys(arguments.variants):
            metrics = [run[split] for run in runs if run["variant"] == name]
            values = [[100 * of_run[score] for of_run in metrics] for score in SCORES]
            cells = [spread(of_score) for of_score in values]
            print(f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells))
    kinds = list(runs[0]["slot_mistakes"])
    print(f"\nslots of test, mean\n{'variant':<{width}}" + "".join(f"{kind:>13}" for kind in kinds))
    for name in dict.fromkeys(arguments.variants):
        counts = [run["slot_mistakes"] for run in runs if run["variant"] == name]
        print(f"{name:<{width}}" + "".join(f"{statistics.mean(c[kind] for c in counts):>13,.1f}" for kind in kinds))
