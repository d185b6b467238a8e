"""The choice of a race, compared with the full study of the same scenarios."""

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_multitask import RunConfig, run_race, run_study
from hf_multitask.study import Race, RaceProgress, RunResult, ScenarioResult, Study

from .arguments import add_data, add_encoder, add_numbers
from .defaults import SCORES, read_dataset
from .tables import markdown_line, spread

SCENARIOS = (
    "nothing-frozen",
    "encoder-frozen",
    "heads-then-all",
    "three-stage",
    "gradual",
    "top:2",
    "top:4",
    "converged",
)
DATASETS = ("snips", "clinc150", "wnut17")
BATCH_SIZE, LEAST_EPOCHS = 16, 4
# Evaluations show the course only: nothing is chosen by them.
EVAL_STEPS = 40
# Greatest loss of the choice in points, and greatest time as a share of the full study.
SCORE_BAR, TIME_BAR = 0.5, 0.35
TIMES_NAME = "processor_seconds.json"


class _Times:
    """Processor seconds of each training, kept in a file, so that a benchmark that is continued knows all of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / TIMES_NAME
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.last = time.process_time()

    def add(self, name: str) -> None:
        """Add the time since the last training, unless this one was finished in an earlier call."""
        now = time.process_time()
        if name not in self.seconds:
            self.seconds[name] = now - self.last
            self.path.write_text(json.dumps(self.seconds))
            print(f"{name}: {self.seconds[name]:.1f} s", flush=True)
        self.last = time.process_time()

    def on_run(self, name: str, result: RunResult, done: int, of: int) -> None:
        """Add the time of a run of the full study."""
        self.add(name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py race``."""
    add_data(parser, "the datasets, in folders of their own")
    add_encoder(parser)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["snips"], help="default: snips")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the studies; the same one continues")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), help="what races (default: eight)")
    parser.add_argument("--also", nargs="+", default=[], help="scenarios that are studied too, and do not race")
    add_numbers(
        parser,
        {
            "sizes": ([50, 100, 500, 1000], "training rows"),
            "seeds": (3, "seeds of the full study"),
            "train-rows": (3000, "first rows of SNIPS, of which each seed draws its own"),
            "validation-rows": (100, "first rows that are evaluated during a training"),
            "least-steps": (160, f"least steps of a training, besides {LEAST_EPOCHS} epochs"),
            "learning-rate": (3e-4, "learning rate of the encoder"),
            "head-learning-rate": (2e-3, "learning rate of the heads"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the races of each dataset and number of rows, one for each task, then the full studies to compare with."""
    cells, scores = [], []
    for dataset in arguments.datasets:
        for size in arguments.sizes:
            compared, of_scenarios = _cells(arguments, dataset, size)
            cells += compared
            scores += of_scenarios
            print("\n" + "\n".join(_score_table(dataset, size, of_scenarios)) + "\n", flush=True)
    print("\n".join(table(cells)))
    names = ("encoder", "datasets", "sizes", "seeds", "scenarios", "train_rows", "validation_rows")
    bars = {"points": SCORE_BAR, "time": TIME_BAR}
    return {
        "benchmark": "race",
        "bars": bars,
        **{n: getattr(arguments, n) for n in names},
        "cells": cells,
        "scores": scores,
    }


def _cells(
    arguments: argparse.Namespace, dataset: str, size: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return how the race of each task of a dataset compares with the full study, and the scores of the study."""
    folder = arguments.folder / dataset / str(size)
    config = _config(arguments, dataset, size)
    # The folder belongs to the study: the times are beside it.
    times = _Times(arguments.folder / dataset / "times" / str(size))
    races, used = {}, {}
    for task in config.tasks:
        used[task.name] = list[str]()
        races[task.name] = _race(config, folder, task.name, size, arguments, times, used[task.name])
    scenarios = [*arguments.scenarios, *arguments.also]
    study = run_study(config, folder, scenarios, arguments.seeds, [size], on_run=times.on_run)
    if study is None:
        raise RuntimeError("start this without a launcher.")
    racing = [scenario for scenario in study.scenarios if scenario.name in arguments.scenarios]
    full = sum(sum(_seconds(scenario, size, times)) for scenario in racing)
    cells = []
    for name, result in races.items():
        share = sum(times.seconds[run] for run in used[name]) / full
        compared = _compare(config, study, racing, result, name, size)
        cells.append({"dataset": dataset, "rows": size, "task": name, "time": share, **compared})
    return cells, [
        {
            "dataset": dataset,
            "rows": size,
            "scenario": scenario.name,
            "processor_seconds": _seconds(scenario, size, times),
            "test": {name: [run.metrics["test"][name] for run in scenario.runs] for name in SCORES[dataset]},
        }
        for scenario in study.scenarios
    ]


def _race(
    config: RunConfig,
    folder: Path,
    task: str,
    size: int,
    arguments: argparse.Namespace,
    times: _Times,
    used: list[str],
) -> Race:
    def on_training(progress: RaceProgress) -> None:
        times.add(progress.run)
        used.append(progress.run)

    result = run_race(
        config, folder, arguments.scenarios, arguments.seeds, size, main_task=task, on_training=on_training
    )
    if result is None:
        raise RuntimeError("start this without a launcher.")
    used[:] = dict.fromkeys(used)  # a rung of one more seed names those of the rung below again
    print(f"{size} rows, {task}: {result.recommendation}", flush=True)
    return result


def _seconds(scenario: ScenarioResult, size: int, times: _Times) -> list[float]:
    return [times.seconds[f"{scenario.name}, {size:,} rows, seed {run.seed}"] for run in scenario.runs]


def _compare(
    config: RunConfig, study: Study, racing: Iterable[ScenarioResult], race: Race, task: str, size: int
) -> dict[str, Any]:
    """Return the choice of a race, the best scenario of the full study, and how far the first is behind."""
    summaries = {scenario.name: scenario.summary_of(size) for scenario in racing}
    scores = {name: summary.scores[task].mean for name, summary in summaries.items() if summary is not None}
    best = max(scores, key=lambda name: scores[name])
    gap = 100 * (scores[best] - scores[race.winner])
    cell = {"choice": race.winner, "sure": race.is_sure, "best": best, "gap": gap, "significant": False}
    if best != race.winner:
        # All is trained: the difference is computed from the records.
        pair = run_study(config, study.folder, [best, race.winner], len(study.config["seeds"]), [size])
        summary = None if pair is None else pair.scenarios[1].summary_of(size)
        difference = None if summary is None else summary.scores[task].difference
        cell["significant"] = difference is not None and difference.high < 0
    return cell


def table(cells: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table of the cells, and how many pass.

    Args:
        cells: The cells.

    Returns:
        Lines of the table.
    """
    header = ["data", "rows", "task", "the race's choice", "the study's best", "behind it, points", "time", "passes"]
    lines = [markdown_line(header), markdown_line(["---"] * len(header))]
    for cell in cells:
        note = "" if cell["gap"] <= SCORE_BAR else ", significant" if cell["significant"] else ", not significant"
        behind = f"{cell['gap']:.2f}{note}"
        verdict = "yes" if _passes(cell) else "no"
        choice = cell["choice"] + ("" if cell["sure"] else " (not sure)")
        of_cell = [cell["dataset"], f"{cell['rows']:,}", cell["task"]]
        lines.append(markdown_line([*of_cell, choice, cell["best"], behind, f"{cell['time']:.2f}", verdict]))
    passed = sum(map(_passes, cells))
    return [*lines, "", f"{passed} of {len(cells)} cells pass."]


def _score_table(dataset: str, size: int, scores: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table of the full study, with times as shares of the first scenario's."""
    metrics = list(scores[0]["test"])
    header = [f"{dataset}, {size:,} rows", *metrics, "time"]
    whole = sum(scores[0]["processor_seconds"])
    lines = [markdown_line(header), markdown_line(["---"] * len(header))]
    for item in scores:
        cells = [spread([100 * value for value in item["test"][name]]) for name in metrics]
        lines.append(markdown_line([item["scenario"], *cells, f"{sum(item['processor_seconds']) / whole:.2f}"]))
    return lines


def _passes(cell: Mapping[str, Any]) -> bool:
    return (cell["gap"] <= SCORE_BAR or not cell["significant"]) and cell["time"] <= TIME_BAR


def _config(arguments: argparse.Namespace, dataset: str, size: int) -> RunConfig:
    """Return the config of the trainings. Its files have all rows of test, and the first ones of other splits."""
    values = read_dataset(arguments.data, dataset)
    folder = arguments.folder / dataset
    for name in ("data", f"times/{size}"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    data = dict(values["data"])
    if dataset == "snips":
        rows = {"train": arguments.train_rows, "validation": arguments.validation_rows, "test": None}
        for split, count in rows.items():
            data[split] = _write(folder / "data" / f"{split}.jsonl", map(json.dumps, data[split][:count]), "\n")
    else:
        path = Path(data["validation"])
        # A line of a table is a row, below its header; an empty line ends a row of words.
        separator, count = ("\n\n", 0) if path.suffix == ".conll" else ("\n", 1)
        rows_of_file = path.read_text(encoding="utf-8").split(separator)[: count + arguments.validation_rows]
        data["validation"] = _write(folder / "data" / path.name, rows_of_file, separator)
    return RunConfig.from_dict(
        {
            **values,
            "encoder": str(arguments.encoder),
            "data": data,
            "training": {
                "num_train_epochs": max(LEAST_EPOCHS, math.ceil(arguments.least_steps / math.ceil(size / BATCH_SIZE))),
                "per_device_train_batch_size": BATCH_SIZE,
                "learning_rate": arguments.learning_rate,
                "head_learning_rate": arguments.head_learning_rate,
                "seed": 0,
                "disable_tqdm": True,
                "eval_strategy": "steps",
                "eval_steps": EVAL_STEPS,
                "logging_steps": EVAL_STEPS,
                "load_best_model_at_end": False,
                "save_strategy": "no",
            },
            "output_dir": str(folder / "out"),
        }
    )


def _write(path: Path, rows: Iterable[str], separator: str) -> str:
    path.write_text("".join(row + separator for row in rows), encoding="utf-8")
    return str(path)
