"""Cost of comparing the gradients of tasks, of balancing their losses, and of private layers, in training steps."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, set_seed

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    PreparedData,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.training.balancing_methods import METHODS
from hf_multitask.training.gradient_methods import TORCHJD

from .arguments import add_encoder, add_numbers
from .rows import TASKS, generate_rows
from .timing import compare, print_table
from .workload import SEED

PLAIN = "neither"
# The cost is measured with more comparisons than the number of steps that it is stated for has.
STEPS, STATED_STEPS = 5, 50
PRIVATE = "private_layers: 2"
# Their backward passes cost the same; what they make of the gradients differs. CAGrad has no default for `c`.
AGGREGATORS: dict[str, dict[str, float]] = {"UPGrad": {}, "PCGrad": {}, "MGDA": {}, "CAGrad": {"c": 0.5}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py sharing``."""
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "batch-size": (32, "rows per step"),
            "steps": (50, "steps of a training"),
            "repeats": (5, "rounds"),
        },
    )
    parser.add_argument(
        "--only", nargs="+", help="names of the table that are compared with a plain run (default: all)"
    )
    parser.add_argument("--apart", action="store_true", help="each row has labels of one task only, not of both")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time trainings with and without comparisons, balanced losses and private layers in turns."""
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(arguments.encoder)
    rows = list(generate_rows(arguments.steps * arguments.batch_size))
    if arguments.apart:
        rows = [{**row, TASKS[i % len(TASKS)].name: None} for i, row in enumerate(rows)]
    data = prepare_datasets({"train": rows}, tokenizer, TASKS)
    variants: dict[str, dict[str, Any]] = {PLAIN: {}, f"conflict_steps: {STEPS}": {"conflict_steps": STEPS}}
    variants |= {f"loss_balancing: {method}": {"loss_balancing": method} for method in METHODS}
    variants |= {
        f"loss_balancing: {{{TORCHJD}: {name}}}": {"loss_balancing": {TORCHJD: name, **options}}
        for name, options in AGGREGATORS.items()
    }
    # The last task, of words, has its own copies of the two uppermost layers.
    tasks = {PRIVATE: [*data.tasks[:-1], replace(data.tasks[-1], private_layers=2)]}
    variants[PRIVATE] = {}
    if arguments.only:
        variants = {name: options for name, options in variants.items() if name in (PLAIN, *arguments.only)}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            name: _run(arguments, data, tasks.get(name, data.tasks), tokenizer, folder, options)
            for name, options in variants.items()
        }
        timed = compare(runs, arguments.repeats)
    print_table(f"{arguments.steps} steps of {arguments.batch_size} rows, all layers trainable", timed)
    compared = timed.get(f"conflict_steps: {STEPS}")
    cost = None if compared is None else (compared["cpu_ratio"] - 1) * STEPS / STATED_STEPS
    if cost is not None:
        print(f"\nconflict_steps: {STATED_STEPS} costs {cost:.1%} of the processor time")
    return {
        "benchmark": "sharing",
        "encoder": str(arguments.encoder),
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "apart": arguments.apart,
        "threads": torch.get_num_threads(),
        "training": timed,
        "cost": cost,
    }


def _run(
    arguments: argparse.Namespace,
    data: PreparedData,
    tasks: Sequence[TaskConfig],
    tokenizer: PreTrainedTokenizerBase,
    folder: str,
    options: dict[str, Any],
) -> Callable[[], None]:
    """Return a function that trains a new model."""

    def run() -> None:
        set_seed(SEED)
        args = MultiTaskTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=arguments.batch_size,
            max_steps=arguments.steps,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        model = MultiTaskModel.from_encoder(arguments.encoder, tasks)
        trainer = MultiTaskTrainer(model=model, args=args, train_dataset=data["train"], processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    return run
