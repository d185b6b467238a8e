"""Gain or cost of torch.compile: training steps with and without it, and number of compilations over the stages."""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import datasets
import torch
from torch._dynamo.utils import counters
from transformers import PreTrainedTokenizerBase

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    PreparedData,
    load_tokenizer,
    prepare_datasets,
)

from .arguments import add_encoder, add_numbers
from .rows import TASKS, generate_rows
from .timing import compare, print_table

# Batches per measurement, with all lengths that the rows have.
BATCHES = 20
# The compilations of a common schedule are counted.
SCHEDULE = "three-stage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py compile``."""
    add_encoder(parser)
    parser.add_argument("--backend", default="inductor", help="backend of torch.compile (default: %(default)s)")
    add_numbers(parser, {"batch-size": (32, "rows per step"), "repeats": (5, "rounds of the measurement")})


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time training steps with and without compilation in turns, and count the compilations of a run in stages."""
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(arguments.encoder)
    data = prepare_datasets({"train": list(generate_rows(BATCHES * arguments.batch_size))}, tokenizer, TASKS)
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            name: _steps(arguments, data, tokenizer, folder, backend)
            for name, backend in (("eager", None), ("compiled", arguments.backend))
        }
        for run in steps.values():
            run()  # compiles
        timed = compare(steps, arguments.repeats)
        graphs = _count_graphs(arguments, data, tokenizer, folder)
    print_table(f"{BATCHES} steps of {arguments.batch_size} rows, all layers trainable", timed)
    print(f"\n{SCHEDULE}: {graphs['graphs']} graphs compiled for {graphs['stages']} stages")
    return {
        "benchmark": "compile",
        "encoder": str(arguments.encoder),
        "backend": arguments.backend,
        "batch_size": arguments.batch_size,
        "steps": BATCHES,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "training": timed,
        **graphs,
    }


def _trainer(
    arguments: argparse.Namespace,
    data: PreparedData,
    tokenizer: PreTrainedTokenizerBase,
    folder: str,
    backend: str | None,
    **options: Any,
) -> MultiTaskTrainer:
    model = MultiTaskModel.from_encoder(arguments.encoder, data.tasks)
    args = MultiTaskTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=arguments.batch_size,
        num_train_epochs=3,
        torch_compile=backend is not None,
        torch_compile_backend=backend,
        store_frozen="never",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return MultiTaskTrainer(model=model, args=args, train_dataset=data["train"], processing_class=tokenizer, **options)


def _steps(
    arguments: argparse.Namespace,
    data: PreparedData,
    tokenizer: PreTrainedTokenizerBase,
    folder: str,
    backend: str | None,
) -> Callable[[], None]:
    """Return a function that trains on every batch once."""
    trainer = _trainer(arguments, data, tokenizer, folder, backend)
    model = trainer.accelerator.prepare_model(trainer.model)
    model.train()
    optimizer = trainer.create_optimizer()
    batches = list(trainer.get_train_dataloader())

    def run() -> None:
        for batch in batches:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def _count_graphs(
    arguments: argparse.Namespace, data: PreparedData, tokenizer: PreTrainedTokenizerBase, folder: str
) -> dict[str, int]:
    """Train in stages and count the graphs; the eager backend gets the same graphs without the time to compile."""
    torch._dynamo.reset()
    counters.clear()
    trainer = _trainer(arguments, data, tokenizer, folder, "eager", freeze_schedule=SCHEDULE)
    trainer.train()
    stages = sum("freeze_stage" in entry for entry in trainer.state.log_history)
    return {"graphs": counters["stats"]["unique_graphs"], "stages": stages}
