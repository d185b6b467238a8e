"""A search for settings: its time in runs of the config itself, and the scores of its winner on test."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_multitask import RunConfig
from hf_multitask.runs import run_training
from hf_multitask.tuning import TrialResult, TuningResult, run_tuning

from .arguments import add_data, add_encoder, add_numbers
from .intents_and_slots import read_intents_and_slots
from .machine import machine_facts

# Most time of a search, in runs of the config itself.
BAR = 12.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py tune``."""
    add_data(parser)
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "rows": (400, "training rows"),
            "trials": (20, "trials of the search"),
            "seeds": (3, "seeds of the winner"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the config itself with each seed, then search, and compare times and scores on test."""
    with tempfile.TemporaryDirectory() as name:
        config = _write_data(arguments, Path(name))
        scores = [_train(config, 42 + i) for i in range(arguments.seeds)]
        result = run_tuning(config, Path(name, "search"), arguments.trials, seeds=arguments.seeds, on_trial=_print)
    seconds = sum(trial.seconds for trial in result.trials)
    ratio = seconds / result.base_trial.seconds
    print(f"\n{arguments.trials} trials took {ratio:.1f} times the config itself (bar: {BAR})")
    for metric in scores[0]:
        given = [run[metric] for run in scores]
        mean, deviation = result.summary("test")[metric]
        print(
            f"{metric}: {_percent(statistics.fmean(given), _deviation(given))} the config itself, "
            f"{_percent(mean, deviation)} the winner"
        )
    return {
        "benchmark": "tune",
        "machine": machine_facts(),
        **{key: getattr(arguments, key) for key in ("rows", "trials", "seeds", "encoder")},
        "config": scores,
        "winner": _of_winner(result),
        "seconds": seconds,
        "ratio": ratio,
        "bar": BAR,
        "passed": ratio <= BAR,
    }


def _write_data(arguments: argparse.Namespace, folder: Path) -> RunConfig:
    """Write the first rows of train and all others, and return the config of a run that names nothing else."""
    rows, labels = read_intents_and_slots(arguments.data)
    files = {}
    for split, split_rows in rows.items():
        kept = split_rows[: arguments.rows] if split == "train" else split_rows
        files[split] = str(folder / f"{split}.jsonl")
        Path(files[split]).write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
    return RunConfig.from_dict(
        {
            "encoder": str(arguments.encoder),
            "tasks": [
                {"name": "intent", "type": "sequence_classification", "labels": labels["intent"]},
                {"name": "slots", "type": "token_classification", "labels": labels["slots"]},
            ],
            "data": files,
            "training": {"disable_tqdm": True},
            "output_dir": str(folder / "out"),
        }
    )


def _train(config: RunConfig, seed: int) -> dict[str, float]:
    """Train the config with a seed, and return its scores on test."""
    values = {**vars(config), "training": {**config.training, "seed": seed}}
    return run_training(RunConfig(**{**values, "output_dir": f"{config.output_dir}-{seed}"}))["test"]


def _print(trial: TrialResult, done: int, of: int) -> None:
    print(json.dumps({"done": done, "of": of, **vars(trial)}), flush=True)


def _of_winner(result: TuningResult) -> Mapping[str, Any]:
    return {"values": result.best_trial.values, "validation": result.best_trial.value, **result.scores}


def _percent(mean: float, deviation: float) -> str:
    return f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
