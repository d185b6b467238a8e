"""Cost of abstaining: a pass of the model with each method, compared with a pass without any."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.abstention import METHODS
from hf_multitask.models.heads_scope import MAX_STORED
from hf_multitask.models.predictor import OutputOptions, Predictor
from hf_multitask.models.text_inputs import TextInput
from hf_multitask.models.text_words import Word

from .arguments import add_encoder, add_numbers
from .rows import generate_rows
from .timing import compare, print_table

PLAIN = "no abstention"
NUM_LABELS = 150
# Greatest share of the processor time of a pass.
BAR = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py abstention``."""
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "rows": (512, "texts to predict"),
            "batch-size": (32, "texts per pass"),
            "repeats": (9, "rounds"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time predictions of the same texts with each method in turns."""
    texts = [" ".join(row["tokens"]) for row in generate_rows(arguments.rows)]
    inputs = [TextInput(text, [Word(text, 0, len(text))]) for text in texts]
    task = TaskConfig(
        "intent",
        "sequence_classification",
        [f"intent {i}" for i in range(NUM_LABELS)],
        problem_type="single_label_classification",
    )
    variants = {PLAIN: task, **{name: replace(task, abstain={"method": name, "threshold": 0.0}) for name in METHODS}}
    functions = {name: _run(arguments, inputs, variant) for name, variant in variants.items()}
    for run in functions.values():
        run()
    timed = compare(functions, arguments.repeats)
    print_table(f"{len(texts):,} texts, {NUM_LABELS} labels, {MAX_STORED:,} texts stored for knn", timed)
    costs = {name: timed[name]["cpu_ratio"] - 1 for name in METHODS}
    for name, cost in costs.items():
        print(
            f"{name} costs {cost:+.1%} of the processor time, allowed {BAR:.0%}: {'ok' if cost <= BAR else 'MISSED'}"
        )
    return {
        "benchmark": "abstention",
        "encoder": str(arguments.encoder),
        "rows": len(texts),
        "batch_size": arguments.batch_size,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "predictions": timed,
        "costs": costs,
    }


def _run(arguments: argparse.Namespace, inputs: list[TextInput], task: TaskConfig) -> Callable[[], None]:
    """Return a function that predicts the texts with a model whose statistics are those of random states."""
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(arguments.encoder, [task])
    for statistic in model.scope_statistics.values():
        statistic.fit(torch.randn(MAX_STORED, model.encoder.config.hidden_size), torch.arange(MAX_STORED) % NUM_LABELS)
    predictor = Predictor.of_model(model, load_tokenizer(arguments.encoder), OutputOptions())

    def run() -> None:
        predictor.predict(inputs, arguments.batch_size)

    return run
