"""Speed and memory of trainings on a device: two stock Trainers, ours, a bare loop, frozen layers."""

import gc
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.freezing import FreezeSpec

from .bare_loop import BareLoop
from .device_runs import Precision, RunResult, peak_bytes, precisions, reset_peak
from .plain_trainers import SingleTaskTrainers
from .timing import time_steps
from .workload import Workload

# Frozen stages are measured in it.
FROZEN_IN = "bf16"


@dataclass(frozen=True)
class _Run:
    """A run to time.

    Args:
        name: Name in the table.
        precision: Name of its precision.
        seconds: Returns the seconds per step.
        is_stock: See `RunResult`.
        runs_all_layers: See `RunResult`.
    """

    name: str
    precision: str
    seconds: Callable[[], float]
    is_stock: bool = False
    runs_all_layers: bool = True


def measure_training(work: Workload, folder: Path, steps: int, repeats: int, workers: int) -> list[RunResult]:
    """Time the trainings in turns.

    Args:
        work: Workload.
        folder: Folder for stores of activations.
        steps: Steps of a training.
        repeats: Number of rounds.
        workers: Number of dataloader workers of the trainers.

    Returns:
        The results, those of the stock Trainers first.
    """
    runs = _runs(work, folder, steps, workers)
    rates: list[list[float]] = [[] for _ in runs]
    peaks: list[int | None] = [None for _ in runs]
    for _ in range(repeats):
        for i, run in enumerate(runs):
            gc.collect()
            reset_peak()
            rates[i].append(work.batch_size / run.seconds())
            peaks[i] = peak_bytes()
    length = statistics.mean(work.data["train"]["length"][:])
    return [
        RunResult(run.name, run.precision, rates[i], peaks[i], length, run.is_stock, run.runs_all_layers)
        for i, run in enumerate(runs)
    ]


def _runs(work: Workload, folder: Path, steps: int, workers: int) -> list[_Run]:
    stock = SingleTaskTrainers(work)
    options: dict[str, Any] = {"max_steps": steps, "dataloader_num_workers": workers}
    known = precisions()
    frozen_in = next(precision for precision in known if precision.name == FROZEN_IN)
    runs = [
        _Run(
            "two Trainers",
            precision.name,
            lambda precision=precision: stock.time_steps(**options, **precision.training),  # type: ignore[misc]
            is_stock=True,
            runs_all_layers=False,  # but twice
        )
        for precision in known
        if precision.attention is None
    ]
    runs += [
        _Run(
            "ours",
            precision.name,
            lambda precision=precision: _time(work, precision, None, **options),  # type: ignore[misc]
        )
        for precision in known
    ]
    runs.append(_Run("bare loop", FROZEN_IN, lambda: BareLoop(work).seconds_per_step(bf16=True)))
    half = work.num_layers // 2
    schedules: dict[str, FreezeSpec] = {
        "top half": {"stages": [{"train": ["heads", f"encoder[-{half}:]"]}]},
        "heads": {"stages": [{"train": "heads"}]},
    }
    for name, schedule in schedules.items():
        runs.append(
            _Run(
                f"ours, {name}",
                FROZEN_IN,
                lambda schedule=schedule: _time(  # type: ignore[misc]
                    work, frozen_in, schedule, store_frozen="never", **options
                ),
                runs_all_layers=False,
            )
        )
        store = {"store_frozen": "always", "store_dtype": "bfloat16", "store_dir": str(folder / "store")}
        runs.append(
            _Run(
                f"ours, {name}, cached",
                FROZEN_IN,
                lambda schedule=schedule, store=store: _time(  # type: ignore[misc]
                    work, frozen_in, schedule, **store, **options
                ),
                runs_all_layers=False,
            )
        )
    return runs


def _time(work: Workload, precision: Precision, schedule: FreezeSpec | None, **options: Any) -> float:
    """Return the seconds per step of our trainer. A cache is filled before the steps that count."""
    with tempfile.TemporaryDirectory() as folder:
        return time_steps(_build(work, folder, precision, schedule, **options))


def _build(work: Workload, folder: str, precision: Precision, schedule: FreezeSpec | None, **options: Any) -> Trainer:
    arguments = {**work.training_arguments(folder, 1), **precision.training, **options}
    return MultiTaskTrainer(
        MultiTaskModel.from_encoder(work.encoder, work.data.tasks, attn_implementation=precision.attention),
        MultiTaskTrainingArguments(**arguments),
        freeze_schedule=schedule,
        train_dataset=work.data["train"],
        processing_class=work.tokenizer,
    )
