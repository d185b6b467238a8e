"""Data with an intent per text and a slot tag per word, and a run that trains both heads on it."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from hf_multitask import RunConfig, run_training

# Nothing is chosen by a run, so that variants differ in what they name.
PLAIN = {"head": "linear", "mix_layers": False, "label_smoothing": 0.0, "constrained_by": False}

Rows = Mapping[str, Sequence[dict[str, Any]]]


def read_intents_and_slots(folder: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[str]]]:
    """Read a dataset with intents and slots.

    Args:
        folder: Folder with train, validation and test .jsonl.

    Returns:
        The rows by split, and the labels of all training rows by task. A subset of the training rows may lack labels
        of validation and test, which would be an error otherwise.
    """
    rows = {split: _read(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    labels = {
        "intent": sorted({row["intent"] for row in rows["train"]}),
        "slots": sorted({tag for row in rows["train"] for tag in row["slots"]}),
    }
    return rows, labels


def join_texts(rows: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Join texts of different intents with "and", as MixSNIPS does (Qin et al. 2020).

    Args:
        rows: Rows with an intent each.
        number: Number of new rows.

    Returns:
        The new rows, each with a list of one to three intents. They are the same in every call.
    """
    random = Random(0)
    joined = []
    for _ in range(number):
        drawn = random.sample(rows, random.randint(1, 3))
        parts = list({row["intent"]: row for row in drawn}.values())
        tokens = [[*row["tokens"], "and"] for row in parts]
        slots = [[*row["slots"], "O"] for row in parts]
        joined.append(
            {
                "tokens": list(chain(*tokens))[:-1],
                "slots": list(chain(*slots))[:-1],
                "intent": [row["intent"] for row in parts],
            }
        )
    return joined


def train_intents_and_slots(
    arguments: argparse.Namespace,
    output_dir: str,
    data: Mapping[str, Any],
    labels: Mapping[str, Sequence[str]],
    training: Mapping[str, Any],
    freeze: str | Mapping[str, Any] = "none",
    intent: Mapping[str, Any] | None = None,
    slots: Mapping[str, Any] | None = None,
    distill: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train both heads.

    Args:
        arguments: Command-line arguments with ``encoder``, ``learning_rate`` and ``head_learning_rate``.
        output_dir: Folder of the model.
        data: Rows by split, and options of the data.
        labels: Labels by task.
        training: Training arguments.
        freeze: Freeze schedule, as in a config.
        intent: Options of the intent task.
        slots: Options of the slot task.
        distill: Teacher and unlabeled rows, as in a config.

    Returns:
        The metrics by split, and ``seconds``.
    """
    tasks = [
        {"name": "intent", "type": "sequence_classification", "labels": labels["intent"], **PLAIN, **(intent or {})},
        {"name": "slots", "type": "token_classification", "labels": labels["slots"], **PLAIN, **(slots or {})},
    ]
    config = RunConfig.from_dict(
        {
            "encoder": arguments.encoder,
            "tasks": tasks,
            "data": {"label_subwords": "first", **data},
            "freeze": freeze,
            "distill": distill,
            "training": {
                "learning_rate": arguments.learning_rate,
                "head_learning_rate": arguments.head_learning_rate,
                "layer_lr_decay": None,
                "logging_steps": 100,
                "disable_tqdm": True,
                **training,
            },
            "output_dir": output_dir,
        }
    )
    start = time.perf_counter()
    metrics = run_training(config)
    return {"seconds": time.perf_counter() - start, **metrics}


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
