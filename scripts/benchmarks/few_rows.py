"""Intents learned from few rows, without a validation split: our training, and SetFit in its own environment."""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_multitask import RunConfig
from hf_multitask.models import find_model
from hf_multitask.runs.build import build_trainer

from .arguments import add_data, add_encoder, add_numbers
from .machine import machine_facts
from .tables import spread

SETFIT = "setfit"
SETFIT_PROGRAM = Path(__file__).with_name("setfit_program.py")
# Given, so that only the method differs.
_SAME: dict[str, Any] = {"per_device_train_batch_size": 8, "layer_lr_decay": 1.0}
_HEADS = {"head_learning_rate": 1e-2, **_SAME}
_ALL = {"num_train_epochs": 10, "learning_rate": 3e-4, "head_learning_rate": 2e-3, **_SAME}
CHOSEN = "chosen"
# Keys of the config by method.
METHODS: dict[str, dict[str, Any]] = {
    "heads": {"freeze": "encoder", "training": {"num_train_epochs": 40, **_HEADS}},
    CHOSEN: {"training": {}},
    "top:2": {"freeze": "top:2", "training": _ALL},
    "heads-then-all": {"freeze": "heads-then-all", "training": _ALL},
    "plain": {"training": _ALL},
    "contrastive": {"contrastive": {}, "freeze": "encoder", "training": {"num_train_epochs": 20, **_HEADS}},
    "contrastive-all": {"contrastive": {}, "training": _ALL},
}

Texts = Sequence[dict[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py few-rows``."""
    add_data(parser, "train and test, .jsonl or .csv with an intent per text")
    add_encoder(parser)
    add_numbers(parser, {"rows-per-class": (8, "rows of each intent"), "seeds": ([0, 1, 2], "random seeds")})
    parser.add_argument("--rows", type=int, help="number of rows of all intents together, instead of --rows-per-class")
    parser.add_argument(
        "--methods",
        nargs="*",
        choices=METHODS,
        default=list(METHODS),
        help=f"our trainings (default: {' '.join(METHODS)})",
    )
    parser.add_argument("--setfit-python", type=Path, help="Python of an environment with SetFit, to compare with it")
    parser.add_argument(
        "--num-iterations", type=int, help="pairs of each kind per row in SetFit (default: all pairs, as SetFit does)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with each method on rows drawn by seed, and score test once at the end of each run."""
    methods = [*arguments.methods, *([SETFIT] if arguments.setfit_python else [])]
    torch.set_num_threads(1)
    train, test = (read_intents(arguments.data, split) for split in ("train", "test"))
    count = arguments.rows or arguments.rows_per_class * len({row["intent"] for row in train})
    runs = []
    for seed in arguments.seeds:
        chosen = draw_evenly(train, count, seed)
        for method in methods:
            if method == SETFIT:
                result = _train_setfit(arguments, seed, chosen, test)
            else:
                result = _train_ours(arguments, method, seed, chosen, test)
            runs.append({"method": method, "seed": seed, **result})
            print(json.dumps(runs[-1]), flush=True)
    print("\n" + "\n".join(table(runs)))
    return {
        "benchmark": "few-rows",
        "rows": count,
        "test_rows": len(test),
        "encoder": arguments.encoder,
        "machine": machine_facts(),
        "runs": runs,
    }


def read_intents(folder: Path, split: str) -> list[dict[str, str]]:
    """Read a split with an intent per text.

    Args:
        folder: Folder with ``<split>.jsonl`` (``tokens`` or ``text``, and ``intent``) or ``<split>.csv`` (``text`` and
            ``intent``).
        split: Name of the split.

    Returns:
        Rows with ``text`` and ``intent``.
    """
    path = folder / f"{split}.jsonl"
    if path.is_file():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [{"text": row.get("text") or " ".join(row["tokens"]), "intent": row["intent"]} for row in rows]
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "intent": row["intent"].strip()} for row in csv.DictReader(file)]


def draw_evenly(rows: Texts, count: int, seed: int) -> list[dict[str, str]]:
    """Draw rows so that the numbers of any two intents differ by at most one.

    Args:
        rows: Rows with an ``intent``.
        count: Number of rows.
        seed: Random seed.

    Returns:
        The rows, in random order.

    Raises:
        ValueError: If some intent has too few rows.
    """
    by_intent: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_intent.setdefault(row["intent"], []).append(row)
    intents = sorted(by_intent)
    with_one_more = random.Random(seed).sample(intents, count % len(intents))
    generator = random.Random(seed)
    drawn = []
    for intent in intents:
        share = count // len(intents) + (intent in with_one_more)
        if share > len(by_intent[intent]):
            raise ValueError(f"intent {intent!r}: expected at least {share} rows, found {len(by_intent[intent])}.")
        drawn += generator.sample(by_intent[intent], share)
    generator.shuffle(drawn)
    return drawn


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of accuracy and CPU seconds by method, as mean and standard deviation over the seeds."""
    lines = ["| method | accuracy on test | by seed | CPU seconds |", "|---|---|---|---|"]
    for method in dict.fromkeys(run["method"] for run in runs):
        chosen = [run for run in runs if run["method"] == method]
        scores = [100 * run["accuracy"] for run in chosen]
        seconds = statistics.mean(run["seconds"] for run in chosen)
        lines.append(
            f"| {method} | {spread(scores)} | {' / '.join(f'{score:.2f}' for score in scores)} | {seconds:.0f} |"
        )
    return lines


def _train_ours(arguments: argparse.Namespace, method: str, seed: int, train: Texts, test: Texts) -> dict[str, Any]:
    settings = METHODS[method]
    task: dict[str, Any] = {"name": "intent", "type": "sequence_classification"}
    if method != CHOSEN:
        task["label_smoothing"] = 0.0
    training = {"logging_steps": 1000, "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.from_dict(
            {
                "encoder": arguments.encoder,
                "tasks": [task],
                # The rows of train may lack intents of test.
                "data": {"train": train, "test": test, "unseen_labels": "ignore"},
                "output_dir": folder,
                **settings,
                "training": {**training, **settings["training"]},
            }
        )
        trainer, data = build_trainer(config)
        start = time.process_time()
        result = trainer.train()
        seconds = time.process_time() - start
        accuracy = trainer.evaluate(data["test"])["eval_intent_accuracy"]
    return {"accuracy": accuracy, "seconds": seconds, "steps": result.global_step}


def _train_setfit(arguments: argparse.Namespace, seed: int, train: Texts, test: Texts) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for split, rows in (("train", train), ("test", test)):
            Path(folder, f"{split}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
            )
        command = [str(arguments.setfit_python), str(SETFIT_PROGRAM), "--folder", folder, "--seed", str(seed)]
        command += ["--encoder", find_model(arguments.encoder)]
        if arguments.num_iterations is not None:
            command += ["--num-iterations", str(arguments.num_iterations)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": folder}
        environment.pop("PYTHONPATH", None)
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)  # noqa: S603
    if run.returncode:
        raise RuntimeError(f"{SETFIT}: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])
