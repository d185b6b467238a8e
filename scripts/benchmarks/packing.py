"""Cost of padding in batches that mix two datasets, and what packing leaves of it."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback

from hf_multitask import RunConfig
from hf_multitask.runs.build import build_trainer

from .arguments import add_data, add_encoder, add_numbers
from .sharing_scores import read_mixed
from .timing import compare, print_table

VARIANTS: dict[str, tuple[str, bool]] = {
    "mixed": ("mixed", False),
    "mixed, packing": ("mixed", True),
    "by_length": ("by_length", False),
    "by_length, packing": ("by_length", True),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py packing``."""
    add_data(parser, "wnut17 and clinc150")
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "batch-size": (32, "rows per step"),
            "steps": (20, "steps of a training"),
            "repeats": (5, "rounds of the measurement"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time training steps on WNUT-17 and CLINC150 in turns, with each kind of batch."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: _run(arguments, Path(folder, name), *variant) for name, variant in VARIANTS.items()}
        timed = compare(runs, arguments.repeats)
    print_table(f"{arguments.steps} steps of {arguments.batch_size} rows of WNUT-17 and CLINC150", timed)
    return {
        "benchmark": "packing",
        "encoder": str(arguments.encoder),
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "threads": torch.get_num_threads(),
        "training": timed,
    }


def _run(arguments: argparse.Namespace, folder: Path, batches: str, packs: bool) -> Callable[[], object]:
    """Return a function that trains; the first rows of an order that is the same for both kinds of padding."""
    values = read_mixed(arguments.data)
    values["sampling"]["batches"] = batches
    values["training"] |= {
        "max_steps": arguments.steps,
        "per_device_train_batch_size": arguments.batch_size,
        "packing": packs,
        "eval_strategy": "no",
        "save_strategy": "no",
        "metric_for_best_model": None,
        "disable_tqdm": True,
    }
    config = RunConfig.from_dict({**values, "encoder": str(arguments.encoder), "output_dir": str(folder)})
    trainer, _ = build_trainer(config)
    trainer.remove_callback(PrinterCallback)
    return trainer.train
