"""Test scores of training: both heads on one data set, and data sets with a task each, mixed and alone."""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

from hf_multitask import RunConfig, run_training
from hf_multitask.metrics import metric_of

SCORES = ("intent_accuracy", "slots_f1", "joint_accuracy")


def scores(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train both heads on all rows with each seed; the epoch is chosen on validation, the scores are those of test."""
    runs = [_scores_of_seed(arguments, seed) for seed in arguments.seeds]
    print(f"\n{arguments.epochs} epochs, {len(runs)} seeds, test scores of the epoch that validation chose")
    print("seed   " + "  ".join(f"{name:>16}" for name in SCORES) + "   minutes")
    for run in runs:
        print(f"{run['seed']:<7}" + "  ".join(f"{100 * run['test'][name]:16.2f}" for name in SCORES), end="")
        print(f"   {run['minutes']:7.1f}")
    for label, reduce in (("mean", statistics.mean), ("sd", statistics.pstdev)):
        values = [reduce([100 * run["test"][name] for run in runs]) for name in SCORES]
        print(f"{label:<7}" + "  ".join(f"{value:16.2f}" for value in values))
    return {"benchmark": "scores", "encoder": arguments.encoder, "epochs": arguments.epochs, "runs": runs}


def _scores_of_seed(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.from_dict(
            {
                "encoder": arguments.encoder,
                "tasks": [
                    {"name": "intent", "type": "sequence_classification"},
                    {"name": "slots", "type": "token_classification"},
                ],
                "data": {split: str(arguments.data / f"{split}.jsonl") for split in ("train", "validation", "test")},
                "training": {
                    "num_train_epochs": arguments.epochs,
                    "learning_rate": arguments.learning_rate,
                    "head_learning_rate": arguments.head_learning_rate,
                    "per_device_train_batch_size": arguments.batch_size,
                    "seed": seed,
                    "logging_steps": 100,
                    "disable_tqdm": True,
                },
                "output_dir": folder,
            }
        )
        start = time.perf_counter()
        metrics = run_training(config)
        return {"seed": seed, "minutes": (time.perf_counter() - start) / 60, **metrics}


def mix(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on data sets with a task each, mixed, and on each alone; the epoch is chosen on validation."""
    runs = []
    for seed in arguments.seeds:
        overrides = {"training.seed": seed, "training.disable_tqdm": True, "training.logging_steps": 100}
        config = RunConfig.from_file(arguments.config, overrides)
        for trained in (config.tasks, *([task] for task in config.tasks)):
            runs.append({"seed": seed, **_mixed_run(config, [task.name for task in trained])})
            print(json.dumps(runs[-1]), flush=True)
    names = {task.name: f"{task.name}_{metric_of(task).main_metric}" for task in config.tasks}
    print(f"\n{len(arguments.seeds)} seeds, test scores of the epoch that validation chose: mean ± sd")
    for tasks in dict.fromkeys(tuple(run["tasks"]) for run in runs):
        chosen = [run for run in runs if tuple(run["tasks"]) == tasks]
        values = {name: [100 * run["test"][names[name]] for run in chosen] for name in tasks}
        cells = [f"{names[n]} {statistics.mean(v):.2f} ± {statistics.pstdev(v):.2f}" for n, v in values.items()]
        print(f"{' + '.join(tasks):<20} {'   '.join(cells)}")
    return {"benchmark": "mix", "config": str(arguments.config), "runs": runs}


def _mixed_run(config: RunConfig, tasks: list[str]) -> dict[str, Any]:
    """Train on the data sets that have labels for the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            config,
            tasks=[task for task in config.tasks if task.name in tasks],
            data=[data for data in config.data_sets if set(data.tasks or tasks) <= set(tasks)],
            output_dir=folder,
        )
        start = time.perf_counter()
        metrics = run_training(config)
        return {"tasks": tasks, "minutes": (time.perf_counter() - start) / 60, **metrics}
