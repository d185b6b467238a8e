"""Cost and scores of freezing layers that have stopped learning, compared with training everything."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_multitask import RunConfig, run_training
from hf_multitask.freezing.stage_results import read_stage_results
from hf_multitask.reports.figure_style import PNG_DPI, check_figure_path, figure_style, line_style

from .arguments import add_data, add_encoder, add_numbers
from .defaults import DATASETS, SCORES, read_dataset
from .intents_and_slots import PLAIN
from .tables import markdown_line, spread

NOTHING = "nothing-frozen"
# Greatest time as a share of training everything, and greatest loss of the last score in points.
TIME_BAR = 0.60
SCORE_BARS = {"snips": 0.3, "snips-400": 0.5, "clinc150": 0.3, "wnut17": 0.7}


class _ProcessorTime(TrainerCallback):
    """Measures the processor time of a training, evaluations and caching included."""

    seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start."""
        self.seconds = -time.process_time()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Stop."""
        self.seconds += time.process_time()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py converged``."""
    add_training(parser)
    add_numbers(parser, {"seeds": ([0, 1, 2], "random seeds")})
    parser.add_argument("--picture", type=Path, help="PNG or SVG file with the curve of scores over time")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of trainings that freeze what has stopped learning.

    Args:
        parser: Parser of the benchmark.
    """
    add_data(parser, "snips, wnut17 and clinc150")
    add_encoder(parser)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["snips-400"], help="default: snips-400")
    add_numbers(
        parser,
        {
            "epochs": (10, "epochs"),
            "batch-size": (16, "rows per step"),
            "learning-rate": (3e-4, "learning rate of the encoder"),
            "head-learning-rate": (2e-3, "learning rate of the heads"),
            "layer-lr-decay": (0.85, "factor of the learning rate from each layer to the one below"),
            "keep": (0.3, "share of the layers that keep training"),
            "aggressiveness": ([0.5, 1.0, 2.0], "options of the preset"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train everything, and with each aggressiveness; for each dataset and seed in turns."""
    if arguments.picture is not None:
        check_figure_path(arguments.picture)
    schedules: dict[str, Any] = {NOTHING: "none"}
    for value in arguments.aggressiveness:
        schedules[f"converged, {value:g}"] = {"preset": "converged", "aggressiveness": value, "keep": arguments.keep}
    runs = []
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            for name, freeze in schedules.items():
                run = {"dataset": dataset, "schedule": name, "seed": seed}
                runs.append({**run, **_train(arguments, dataset, freeze, seed)})
                print(json.dumps(runs[-1]), flush=True)
    for dataset in arguments.datasets:
        print("\n" + "\n".join(table(dataset, [run for run in runs if run["dataset"] == dataset])))
    if arguments.picture is not None:
        draw(arguments.picture, runs)
    settings = ("encoder", "epochs", "learning_rate", "head_learning_rate", "layer_lr_decay", "batch_size", "keep")
    bars = {"time": TIME_BAR, "scores": SCORE_BARS}
    return {"benchmark": "converged", "bars": bars, **{n: getattr(arguments, n) for n in settings}, "runs": runs}


def _train(arguments: argparse.Namespace, dataset: str, freeze: Any, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = training_config(arguments, dataset, freeze, seed, Path(folder))
        timer = _ProcessorTime()
        metrics = run_training(config, callbacks=[timer])
        changes = [
            {"step": change["step"], "trains": len(change["trained_groups"]), "reason": change["reason"]}
            for stage in read_stage_results(config.output_dir)
            for change in stage["changes"]
        ]
    return {"processor_seconds": timer.seconds, "changes": changes, **metrics}


def training_config(arguments: argparse.Namespace, dataset: str, freeze: Any, seed: int, folder: Path) -> RunConfig:
    """Return the config of a training.

    Args:
        arguments: Arguments of `add_training`.
        dataset: Name of the dataset.
        freeze: Schedule.
        seed: Random seed.
        folder: Folder to write to.
    """
    values = read_dataset(arguments.data, dataset)
    return RunConfig.from_dict(
        {
            "encoder": arguments.encoder,
            "tasks": [{**task, **PLAIN} for task in values["tasks"]],
            "data": {"label_subwords": "first", **values["data"]},
            "freeze": freeze,
            "training": {
                "num_train_epochs": arguments.epochs,
                "per_device_train_batch_size": arguments.batch_size,
                "learning_rate": arguments.learning_rate,
                "head_learning_rate": arguments.head_learning_rate,
                "layer_lr_decay": arguments.layer_lr_decay,
                "seed": seed,
                "logging_steps": 100,
                "disable_tqdm": True,
                # Of its own, so that no run reads what another has cached.
                "store_dir": str(folder / "store"),
            },
            "output_dir": str(folder / "out"),
        }
    )


def table(dataset: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table: time as a share of training everything with the same seed, and scores on test.

    Args:
        dataset: Name of the dataset.
        runs: Its runs, each with ``schedule``, ``seed``, ``processor_seconds`` and ``test`` scores.

    Returns:
        Lines of the table.
    """
    scores = SCORES[dataset]
    lines = [
        markdown_line([dataset, "time", *(score.replace("_", " ") for score in scores), "difference of the last"])
    ]
    lines.append(markdown_line(["---"] * (len(scores) + 3)))
    for name, (times, gains) in _times_and_gains(dataset, runs).items():
        chosen = [run for run in runs if run["schedule"] == name]
        cells = [spread([100 * run["test"][score] for run in chosen]) for score in scores]
        lines.append(markdown_line([name, spread(times), *cells, f"{statistics.mean(gains):+.2f}"]))
    return lines


def draw(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Draw the mean difference to training everything over the mean time, by aggressiveness; a line per dataset.

    Args:
        path: File to write.
        runs: Runs of all datasets, as in `table`.
    """
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(5.5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for i, dataset in enumerate(dict.fromkeys(run["dataset"] for run in runs)):
            of_dataset = [run for run in runs if run["dataset"] == dataset]
            points = [
                (statistics.mean(times), statistics.mean(gains), name)
                for name, (times, gains) in _times_and_gains(dataset, of_dataset).items()
            ]
            shares, differences, _ = zip(*points, strict=True)
            axes.plot(shares, differences, label=f"{dataset}, {SCORES[dataset][-1]}", markersize=4, **line_style(i))
            for share, difference, name in points:
                axes.annotate(
                    name.removeprefix("converged, "),
                    (share, difference),
                    xytext=(4, -9),
                    textcoords="offset points",
                    fontsize=7,
                )
        axes.set_xlabel("time, as a share of training everything")
        axes.set_title("points of difference to training everything", loc="left")
        axes.margins(x=0.15)
        axes.legend(loc="lower right", fontsize=8)
        figure.savefig(path, dpi=PNG_DPI)


def _times_and_gains(dataset: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Return by schedule the shares of time and the differences of the last score, each to everything by seed."""
    score = SCORES[dataset][-1]
    base = {run["seed"]: run for run in runs if run["schedule"] == NOTHING}
    found: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        times, gains = found.setdefault(run["schedule"], ([], []))
        everything = base[run["seed"]]
        times.append(run["processor_seconds"] / everything["processor_seconds"])
        gains.append(100 * (run["test"][score] - everything["test"][score]))
    return found
