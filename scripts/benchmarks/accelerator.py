"""Training and predictions on an accelerator: rows per second, share of the card's own limit, and memory.

Weights and tokens are random. The benchmark also runs without an accelerator, but its numbers mean little then.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_multitask import MultiTaskModel

from .accelerator_predictions import measure_predictions
from .accelerator_training import measure_training
from .arguments import add_numbers
from .device_limit import matrix_product_flops
from .device_runs import MIB, RunResult, operations_per_token, shape_in_words
from .machine import machine_facts
from .random_workload import EncoderShape, encoder_shape, random_workload
from .tables import markdown_line
from .workload import silence_libraries

TERA = 1e12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py accelerator``."""
    add_numbers(
        parser,
        {
            "steps": (40, "steps per training"),
            "texts": (2048, "texts to predict"),
            "batch-size": (128, "rows per step and texts per batch"),
            "length": (128, "tokens per row"),
            "repeats": (1, "rounds"),
            "workers": (4, "dataloader workers"),
            "matrix-size": (8192, "size of the matrices whose products are the limit of the card"),
        },
    )
    parser.add_argument(
        "--shapes",
        type=encoder_shape,
        nargs="+",
        default=[encoder_shape("6x384"), encoder_shape("12x768")],
        metavar="LAYERSxWIDTH",
        help="sizes of the encoder (default: 6x384 12x768, those of MiniLM and of BERT-base)",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare trainings and predictions with stock ones, with each other and with the limit of the card."""
    silence_libraries()
    facts = machine_facts()
    limit = matrix_product_flops(arguments.matrix_size)
    name = facts["accelerator"] or facts["processor"]
    print(f"{name}, torch {facts['torch']}, transformers {facts['transformers']}. Limit: {limit / TERA:,.1f} TFLOP/s,")
    print(f"measured with products of bf16 matrices of {arguments.matrix_size:,} rows and columns.")
    results = [_measure_shape(shape, arguments, limit) for shape in arguments.shapes]
    return {
        "benchmark": "accelerator",
        "machine": facts,
        "limit_tflops": limit / TERA,
        "length": arguments.length,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "shapes": results,
    }


def _measure_shape(shape: EncoderShape, arguments: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Measure an encoder of a size, and print both of its tables."""
    with tempfile.TemporaryDirectory() as folder:
        rows = arguments.steps * arguments.batch_size
        work = random_workload(Path(folder, "encoder"), shape, rows, arguments.length, arguments.batch_size)
        model = MultiTaskModel.from_encoder(work.encoder, work.data.tasks)
        operations = operations_per_token(model, arguments.length)
        print(f"\n{shape_in_words(model, shape)}\n")
        training = measure_training(work, Path(folder), arguments.steps, arguments.repeats, arguments.workers)
        # A backward pass takes twice the operations of a forward pass.
        _print_table(
            f"Training, {arguments.batch_size} rows of {arguments.length} tokens per step",
            training,
            3 * operations * arguments.length / limit,
        )
        predictions = measure_predictions(work, Path(folder), arguments.texts, arguments.length, arguments.repeats)
        print()
        _print_table(
            f"Predictions of texts of {arguments.length // 4} to {arguments.length} tokens, "
            f"{arguments.batch_size} per batch",
            predictions,
            operations * predictions[0].mean_length / limit,
        )
    return {
        "layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "operations_per_token": operations,
        "training": [_as_json(run, 3 * operations * arguments.length / limit) for run in training],
        "predictions": [_as_json(run, operations * run.mean_length / limit) for run in predictions],
    }


def _as_json(run: RunResult, share_per_row: float) -> dict[str, Any]:
    return {
        "name": run.name,
        "precision": run.precision,
        "rows_per_second": run.rows_per_second,
        "all_rows_per_second": list(run.all_rows_per_second),
        "share_of_limit": run.rows_per_second * share_per_row,
        "peak_bytes": run.peak_bytes,
        "runs_all_layers": run.runs_all_layers,
    }


def _print_table(title: str, runs: Sequence[RunResult], share_per_row: float) -> None:
    """Print a table in Markdown, to be pasted into a page.

    Runs are compared with the same run in float32, and with the stock classes in the same precision.

    Args:
        title: Header of the first column.
        runs: The runs; the first ones are those of the stock classes.
        share_per_row: Share of the limit that a row per second takes through all layers.
    """
    stock = {run.precision: run for run in runs if run.is_stock}
    rates: Mapping[tuple[str, str], float] = {(run.name, run.precision): run.rows_per_second for run in runs}
    print(f"| {title} | precision | rows/s | vs. fp32 | vs. stock | share of limit | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for run in runs:
        full = rates.get((run.name, "fp32"))
        theirs = stock.get(run.precision)
        cells = [
            run.name,
            run.precision,
            f"{run.rows_per_second:,.0f}",
            "" if full is None else f"{run.rows_per_second / full:.2f}",
            "" if theirs is None else f"{run.rows_per_second / theirs.rows_per_second:.2f}",
            f"{run.rows_per_second * share_per_row:.1%}" if run.runs_all_layers else "",
            "" if run.peak_bytes is None else f"{run.peak_bytes / MIB:,.0f}",
        ]
        print(markdown_line(cells))
