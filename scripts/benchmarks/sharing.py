"""Cost of comparing the gradients of tasks and of balancing their losses, in training steps."""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, set_seed

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    PreparedData,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.training.balancing_methods import METHODS
from hf_multitask.training.gradient_methods import TORCHJD

from .rows import TASKS, generate_rows
from .timing import compare, print_table
from .workload import SEED

PLAIN = "neither"
# The cost is measured with more comparisons than the number of steps that it is stated for has.
STEPS, STATED_STEPS = 5, 50
# Their backward passes cost the same; what they make of the gradients differs.
AGGREGATORS = ("UPGrad", "PCGrad", "MGDA")


def sharing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time trainings with and without comparisons and balanced losses in turns."""
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(arguments.encoder)
    data = prepare_datasets({"train": list(generate_rows(arguments.steps * arguments.batch_size))}, tokenizer, TASKS)
    variants: dict[str, dict[str, Any]] = {PLAIN: {}, f"conflict_steps: {STEPS}": {"conflict_steps": STEPS}}
    balancing: list[str | dict[str, str]] = [*METHODS, *({TORCHJD: name} for name in AGGREGATORS)]
    variants |= {f"loss_balancing: {_name(method)}": {"loss_balancing": method} for method in balancing}
    with tempfile.TemporaryDirectory() as folder:
        timed = compare(
            {name: _run(arguments, data, tokenizer, folder, options) for name, options in variants.items()},
            arguments.repeats,
        )
    cost = (timed[f"conflict_steps: {STEPS}"]["cpu_ratio"] - 1) * STEPS / STATED_STEPS
    print_table(f"{arguments.steps} steps of {arguments.batch_size} rows, all layers trainable", timed)
    print(f"\nconflict_steps: {STATED_STEPS} costs {cost:.1%} of the processor time")
    return {
        "benchmark": "sharing",
        "encoder": str(arguments.encoder),
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "training": timed,
        "cost": cost,
    }


def _name(method: str | dict[str, str]) -> str:
    return method if isinstance(method, str) else f"{{{TORCHJD}: {method[TORCHJD]}}}"


def _run(
    arguments: argparse.Namespace,
    data: PreparedData,
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
        model = MultiTaskModel.from_encoder(arguments.encoder, data.tasks)
        trainer = MultiTaskTrainer(model=model, args=args, train_dataset=data["train"], processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    return run
