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

from hf_multitask.freezing.stage_results import read_stage_results

from .intents_and_slots import Rows, read_intents_and_slots, train_intents_and_slots

SCORES = ("intent_accuracy", "slots_f1", "joint_accuracy")
NOTHING = "nothing-frozen"
# Greatest time as a share of training everything, and greatest loss of joint accuracy in points.
TIME_BAR, SCORE_BAR = 0.60, 0.5


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


def converged(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train everything, and with each aggressiveness; for each seed in turns."""
    rows, labels = read_intents_and_slots(arguments.data)
    rows["train"] = rows["train"][: arguments.train_rows]
    schedules: dict[str, Any] = {NOTHING: "none"}
    for value in arguments.aggressiveness:
        schedules[f"converged, {value:g}"] = {"preset": "converged", "aggressiveness": value, "keep": arguments.keep}
    runs = []
    for seed in arguments.seeds:
        for name, freeze in schedules.items():
            runs.append({"schedule": name, "seed": seed, **_train(arguments, freeze, seed, rows, labels)})
            print(json.dumps(runs[-1]), flush=True)
    print("\n" + "\n".join(table(runs)))
    settings = (
        "encoder",
        "train_rows",
        "epochs",
        "learning_rate",
        "head_learning_rate",
        "layer_lr_decay",
        "batch_size",
        "keep",
    )
    bars = {"time": TIME_BAR, "joint_accuracy": SCORE_BAR}
    return {"benchmark": "converged", "bars": bars, **{n: getattr(arguments, n) for n in settings}, "runs": runs}


def _train(
    arguments: argparse.Namespace, freeze: Any, seed: int, rows: Rows, labels: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    timer = _ProcessorTime()
    with tempfile.TemporaryDirectory() as folder:
        training = {
            "num_train_epochs": arguments.epochs,
            "per_device_train_batch_size": arguments.batch_size,
            "seed": seed,
            "layer_lr_decay": arguments.layer_lr_decay,
            # Of its own, so that no run reads what another has cached.
            "store_dir": str(Path(folder, "store")),
        }
        output = str(Path(folder, "out"))
        found = train_intents_and_slots(arguments, output, rows, labels, training, freeze, callbacks=[timer])
        changes = [
            {"step": change["step"], "trains": len(change["trained_groups"]), "reason": change["reason"]}
            for stage in read_stage_results(output)
            for change in stage["changes"]
        ]
    return {"processor_seconds": timer.seconds, "changes": changes, **found}


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table: time as a share of training everything with the same seed, and scores on test.

    Args:
        runs: The runs, each with ``schedule``, ``seed``, ``processor_seconds`` and ``test`` scores.

    Returns:
        Lines of the table.
    """
    base = {run["seed"]: run for run in runs if run["schedule"] == NOTHING}
    lines = [_line(["schedule", "time", *(score.replace("_", " ") for score in SCORES), "joint accuracy, difference"])]
    lines.append(_line(["---"] * (len(SCORES) + 3)))
    for name in dict.fromkeys(run["schedule"] for run in runs):
        chosen = [run for run in runs if run["schedule"] == name]
        times = [run["processor_seconds"] / base[run["seed"]]["processor_seconds"] for run in chosen]
        gains = [100 * (run["test"][SCORES[-1]] - base[run["seed"]]["test"][SCORES[-1]]) for run in chosen]
        cells = [_spread([100 * run["test"][score] for run in chosen]) for score in SCORES]
        lines.append(_line([name, _spread(times), *cells, f"{statistics.mean(gains):+.2f}"]))
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.pstdev(values):.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
