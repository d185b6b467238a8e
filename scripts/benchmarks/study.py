"""A study compared with the same runs as separate commands, which run one after the other and share nothing."""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hf_multitask.models.encoder_loading import find_model, load_config
from hf_multitask.models.tasks import TaskConfig
from hf_multitask.study.scenarios import JOINT, Scenario, find_scenarios

from .arguments import add_data, add_encoder, add_numbers
from .machine import machine_facts

# Maximum ratio of the time of the study to the time of the separate runs.
BAR = 0.5
TASKS = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
SCENARIOS = (
    "everything-frozen",
    "encoder-frozen",
    JOINT,
    "intent-head-frozen-safe",
    "slots-head-frozen-safe",
    "heads-then-all",
    "three-stage",
    "top:2",
)
SEED = 0


class Times(NamedTuple):
    """Time of a command: wall-clock seconds, and processor seconds, which depend less on other programs."""

    seconds: float
    cpu_seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py study``."""
    add_data(parser)
    add_encoder(parser)
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), help="compared scenarios (default: eight)")
    add_numbers(
        parser,
        {
            "rows": (1000, "training rows"),
            "epochs": (3, "epochs of each run"),
            "processes": (1, "processes of the study"),
            "repeats": (1, "rounds"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the study and the separate runs, and compare times and scores."""
    layers = load_config(find_model(arguments.encoder)).num_hidden_layers
    scenarios = find_scenarios(arguments.scenarios, TASKS, layers)
    rounds = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            config = _write_config(arguments, Path(folder))
            separate = {scenario.name: Times(0.0, 0.0) for scenario in scenarios}
            together = _time_study(arguments, scenarios, config)
            # The joint model comes first because other runs start from it.
            for scenario in sorted(scenarios, key=lambda scenario: scenario.name != JOINT):
                separate[scenario.name] = _time_run(arguments, scenario, config)
            rounds.append(_round(together, separate) | {"test": _compare_scores(Path(folder), scenarios)})
        _print_round(rounds[-1])
    ratio = statistics.median(result["ratio"] for result in rounds)
    print(f"\nstudy: {ratio:.2f} of the separate runs' time (bar: {BAR}): {'passed' if ratio <= BAR else 'failed'}")
    settings = ("encoder", "rows", "epochs", "processes")
    return {
        "benchmark": "study",
        "machine": machine_facts(),
        **{name: getattr(arguments, name) for name in settings},
        "rounds": rounds,
        "ratio": ratio,
        "bar": BAR,
        "passed": ratio <= BAR,
    }


def _write_config(arguments: argparse.Namespace, folder: Path) -> Path:
    """Write a config, with the first rows of train and all rows of the other splits in its folder."""
    for split in ("train", "validation", "test"):
        lines = (arguments.data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        rows = lines[: arguments.rows] if split == "train" else lines
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    values = {
        "encoder": str(arguments.encoder),
        "tasks": [{"name": task.name, "type": task.type, "labels": _labels(arguments.data, task)} for task in TASKS],
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "training": {
            "num_train_epochs": arguments.epochs,
            "learning_rate": 3e-4,
            "head_learning_rate": 2e-3,
            "seed": SEED,
            "disable_tqdm": True,
        },
        "output_dir": str(folder / "out"),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def _labels(data: Path, task: TaskConfig) -> list[str]:
    """Return the labels of all training rows: the first rows may lack labels of validation and test."""
    labels: set[str] = set()
    with (data / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)[task.name]
            labels.update(value if isinstance(value, list) else [value])
    return sorted(labels)


def _time_study(arguments: argparse.Namespace, scenarios: Sequence[Scenario], config: Path) -> Times:
    names = ",".join(scenario.name for scenario in scenarios)
    command = ["study", config, "--scenarios", names, "--seeds", "1", "--output", config.parent / "study"]
    return _time_command([*command, "--processes", arguments.processes], config.parent / "cache of the study")


def _time_run(arguments: argparse.Namespace, scenario: Scenario, config: Path) -> Times:
    steps_per_epoch = -(-arguments.rows // 32)
    freeze = scenario.freeze_for(steps_per_epoch, steps_per_epoch * arguments.epochs)
    folder = config.parent / "separate" / scenario.folder_name
    command = ["train", config, "--freeze", json.dumps(freeze), "--output_dir", folder]
    if scenario.starts_from is not None:
        # The joint model was trained before, as if the runs were started by hand.
        command += ["--encoder", folder.parent / scenario.starts_from]
    if scenario.one_rate:
        command += ["--training.head_learning_rate", "3.0e-4"]
    if scenario.only_task is not None:
        task = next(task for task in TASKS if task.name == scenario.only_task)
        values = {"name": task.name, "type": task.type, "labels": _labels(arguments.data, task)}
        command += ["--tasks", json.dumps([values])]
    cache = config.parent / "cache of one run"
    times = _time_command(command, cache)
    shutil.rmtree(cache, ignore_errors=True)
    return times


def _time_command(arguments: Sequence[Any], cache: Path) -> Times:
    """Run a command of the library with a separate cache, and time it."""
    command = [sys.executable, "-m", "hf_multitask", *map(str, arguments)]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache)}
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    result = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603 (our own command)
    times = Times(time.perf_counter() - start, _cpu_seconds() - cpu_start)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr[-2000:]}")
    return times


def _cpu_seconds() -> float:
    """Return the processor seconds of all finished commands."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _round(study: Times, separate: Mapping[str, Times]) -> dict[str, Any]:
    """Compare the study with the sum of the separate runs."""
    return {
        "study": study._asdict(),
        "separate": {name: times._asdict() for name, times in separate.items()},
        "ratio": study.seconds / sum(times.seconds for times in separate.values()),
        "cpu_ratio": study.cpu_seconds / sum(times.cpu_seconds for times in separate.values()),
    }


def _compare_scores(folder: Path, scenarios: Sequence[Scenario]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores on test of each run, in the study and as a separate command."""
    study_json = json.loads((folder / "study" / "study.json").read_text(encoding="utf-8"))
    scores = {}
    for scenario, item in zip(scenarios, study_json["scenarios"], strict=True):
        path = folder / "separate" / scenario.folder_name / "metrics.json"
        separate = json.loads(path.read_text(encoding="utf-8"))["test"]
        names = list(study_json["main_metrics"].values())
        together = item["runs"][0]["metrics"]["test"]
        scores[scenario.name] = {
            "study": {name: together[name] for name in names if name in together},
            "separate": {name: separate[name] for name in names if name in separate},
        }
    return scores


def _print_round(result: Mapping[str, Any]) -> None:
    print(f"\n{'':<28}{'seconds':>10}{'of CPU':>10}   scores on test, in the study and separate")
    for name, times in result["separate"].items():
        scores = result["test"][name]
        cells = [f"{metric} {value:.4f} {scores['separate'][metric]:.4f}" for metric, value in scores["study"].items()]
        print(f"{name:<28}{times['seconds']:>10.1f}{times['cpu_seconds']:>10.1f}   {'  '.join(cells)}")
    times = result["study"]
    print(f"{'study':<28}{times['seconds']:>10.1f}{times['cpu_seconds']:>10.1f}")
    print(f"{'of the separate runs':<28}{result['ratio']:>10.2f}{result['cpu_ratio']:>10.2f}", flush=True)
