"""Gain of unlabeled rows with a teacher, and of averaging the models of several seeds."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_multitask import average_models, run_evaluation

from .arguments import add_data, add_encoder, add_numbers
from .intents_and_slots import read_intents_and_slots, train_intents_and_slots

SCORES = ("intent_accuracy", "slots_f1", "joint_accuracy")
# Least gain of a student's slot F1 by its teacher, in points.
BAR = 1.5
TEACHER, PLAIN, DISTILLED = "teacher", "student alone", "student with teacher"
# Settings of all models.
SLOTS = {"label_smoothing": 0.1}
TEACHER_SLOTS = {**SLOTS, "head": "lstm", "mix_layers": True}
STUDENT_SLOTS = {**SLOTS, "head": "linear", "mix_layers": False}
FREEZE = {"stages": [{"name": "all", "layer_lr_decay": 0.85}]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py distill``."""
    add_data(parser)
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "labeled-rows": (400, "rows with labels"),
            "unlabeled-rows": (4000, "rows after them, used without labels"),
            "teachers": (1, "teachers; several are an ensemble"),
            "batch-size": (8, "rows per step on labeled rows"),
            "epochs": (10, "epochs on labeled rows"),
            "distill-batch-size": (16, "rows per step with unlabeled rows"),
            "distill-epochs": (4, "epochs with unlabeled rows"),
            "learning-rate": (3e-4, "learning rate of the encoder"),
            "head-learning-rate": (1e-3, "learning rate of the heads"),
            "temperature": (2.0, "temperature of the distillation"),
            "weight": (1.0, "weight of the distillation"),
            "seeds": ([0, 1, 2], "random seeds"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train teachers on few rows, and students on the same rows with and without the teacher and unlabeled rows."""
    rows, labels = read_intents_and_slots(arguments.data)
    labeled, others = rows["train"][: arguments.labeled_rows], rows["train"][arguments.labeled_rows :]
    unlabeled = [{"tokens": row["tokens"]} for row in others[: arguments.unlabeled_rows]]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        # In files: a run writes its config, and with it rows in memory.
        data = {split: str(arguments.data.resolve() / f"{split}.jsonl") for split in ("validation", "test")}
        data |= {"train": _write(labeled, Path(folder, "labeled.jsonl")), "label_subwords": "all"}

        def train(kind: str, seed: int, slots: Mapping[str, Any], size: int, epochs: float, **options: Any) -> str:
            output = str(Path(folder, f"{kind} {seed}".replace(" ", "-")))
            training = {"num_train_epochs": epochs, "per_device_train_batch_size": size, "seed": seed}
            intent = {"label_smoothing": 0.1}
            found = train_intents_and_slots(
                arguments, output, data, labels, training, FREEZE, intent, slots, **options
            )
            runs.append({"kind": kind, "seed": seed, **found})
            print(json.dumps(runs[-1]), flush=True)
            return output

        few = (arguments.batch_size, arguments.epochs)
        many = (arguments.distill_batch_size, arguments.distill_epochs)
        teachers = [train(TEACHER, seed, TEACHER_SLOTS, *few) for seed in range(arguments.teachers)]
        settings = {"teacher": teachers, "data": _write(unlabeled, Path(folder, "unlabeled.jsonl"))}
        settings |= {"temperature": arguments.temperature, "weight": arguments.weight}
        students: dict[str, list[str]] = {PLAIN: [], DISTILLED: []}
        for seed in arguments.seeds:
            students[PLAIN].append(train(PLAIN, seed, STUDENT_SLOTS, *few))
            students[DISTILLED].append(train(DISTILLED, seed, STUDENT_SLOTS, *many, distill=settings))
        averages = {}
        if len(arguments.seeds) > 1:
            for kind, folders in students.items():
                for is_greedy in (False, True):
                    name = f"{'greedy ' if is_greedy else ''}average of {kind}"
                    output = str(Path(folder, name.replace(" ", "-")))
                    average_models(folders, output, rows["validation"], greedy=is_greedy)
                    averages[name] = run_evaluation(output, rows["test"])
    _print_table(arguments, runs, averages, len(unlabeled))
    return {
        "benchmark": "distill",
        "bar": BAR,
        "labeled_rows": len(labeled),
        "unlabeled_rows": len(unlabeled),
        **{key: value for key, value in vars(arguments).items() if isinstance(value, (int, float, str, list))},
        "runs": runs,
        "averages": averages,
    }


def _write(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _print_table(
    arguments: argparse.Namespace,
    runs: Sequence[Mapping[str, Any]],
    averages: Mapping[str, Mapping[str, float]],
    unlabeled_rows: int,
) -> None:
    print(
        f"\n{arguments.labeled_rows:,} labeled and {unlabeled_rows:,} unlabeled rows, {arguments.teachers} teachers, "
        f"seeds {', '.join(map(str, arguments.seeds))}; test, mean ± sd"
    )
    print(f"{'model':<40}" + "".join(f"{score:>18}" for score in SCORES) + f"{'seconds':>10}")
    means = {}
    for kind in dict.fromkeys(run["kind"] for run in runs):
        of_kind = [run for run in runs if run["kind"] == kind]
        values = {score: [100 * run["test"][score] for run in of_kind] for score in SCORES}
        means[kind] = {score: statistics.mean(found) for score, found in values.items()}
        cells = [f"{means[kind][score]:.2f} ± {statistics.pstdev(found):.2f}" for score, found in values.items()]
        seconds = statistics.mean(run["seconds"] for run in of_kind)
        print(f"{kind:<40}" + "".join(f"{cell:>18}" for cell in cells) + f"{seconds:>10.0f}")
    for name, metrics in averages.items():
        print(f"{name:<40}" + "".join(f"{100 * metrics[score]:>18.2f}" for score in SCORES))
    gain = means[DISTILLED]["slots_f1"] - means[PLAIN]["slots_f1"]
    print(f"\ngain of the student's slot F1 by its teacher: {gain:+.2f} (bar: {BAR:+.2f})")
