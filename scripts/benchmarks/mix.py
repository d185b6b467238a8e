"""Test scores of training on datasets with one task each, mixed and separately."""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_multitask import RunConfig, run_training
from hf_multitask.training.metrics import metric_of

from .arguments import add_numbers
from .tables import spread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py mix``."""
    parser.add_argument("config", type=Path, help="config in which each dataset names its tasks")
    add_numbers(parser, {"seeds": ([0, 1, 2, 3, 4], "random seeds")})


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on datasets with one task each, mixed and separately. The epoch is chosen on validation."""
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
        cells = [f"{names[n]} {spread(v)}" for n, v in values.items()]
        print(f"{' + '.join(tasks):<20} {'   '.join(cells)}")
    return {"benchmark": "mix", "config": str(arguments.config), "runs": runs}


def _mixed_run(config: RunConfig, tasks: list[str]) -> dict[str, Any]:
    """Train on the datasets that are labeled for the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            config,
            tasks=[task for task in config.tasks if task.name in tasks],
            data=[data for data in config.data_configs if set(data.tasks or tasks) <= set(tasks)],
            output_dir=folder,
        )
        start = time.perf_counter()
        metrics = run_training(config)
        return {"tasks": tasks, "minutes": (time.perf_counter() - start) / 60, **metrics}
