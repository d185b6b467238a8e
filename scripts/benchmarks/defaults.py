"""Scores and time of configs that name only encoder, tasks and data, against the settings that the docs had before."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_multitask import RunConfig, run_training
from hf_multitask.models.loading import load_model
from hf_multitask.models.tasks_constraints import without_constraint
from hf_multitask.runs.evaluation import evaluate_model
from hf_multitask.training.settings import EFFORTS

from .arguments import add_choices, add_data, add_encoder, add_numbers
from .intents_and_slots import join_texts, read_intents_and_slots
from .tables import spread

FEW = 400
# Training rows of the datasets that are the first rows of SNIPS.
FIRST_ROWS = {"snips-100": 100, "snips-400": FEW}
# Rows of the dataset whose texts have several intents each.
SEVERAL_INTENTS = "snips-several"
ROWS_OF_SEVERAL = {"train": 1658, "validation": 350, "test": 700}
INTENT, SLOTS, NER = "intent", "slots", "ner"
SCORES = {
    **dict.fromkeys([*FIRST_ROWS, "snips"], ("intent_accuracy", "slots_f1", "joint_accuracy")),
    SEVERAL_INTENTS: ("intent_micro_f1", "slots_f1", "joint_accuracy"),
    "wnut17": ("ner_f1",),
    "clinc150": ("intent_accuracy",),
}
DATASETS = tuple(SCORES)
# The settings that the docs had before settings were chosen, each one given: of all rows, and of few.
GIVEN = {
    "num_train_epochs": 6,
    "learning_rate": 3e-4,
    "head_learning_rate": 2e-3,
    "per_device_train_batch_size": 32,
    "layer_lr_decay": None,
    "warmup_steps": 0.1,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
}
GIVEN_OF_FEW = {
    **GIVEN,
    "num_train_epochs": 10,
    "learning_rate": 5e-4,
    "head_learning_rate": 4e-3,
    "per_device_train_batch_size": 16,
}
GIVEN_OF_TASK = {"head": "linear", "mix_layers": False, "label_smoothing": 0.0, "constrained_by": False}
# Scores of the same models when no label excludes entity types.
FREE = "free_"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py defaults``."""
    add_data(parser, "snips, wnut17 and clinc150")
    add_encoder(parser)
    add_choices(parser, "datasets", DATASETS, "datasets")
    add_numbers(parser, {"seeds": ([0, 1, 2], "random seeds")})
    parser.add_argument(
        "--efforts",
        nargs="+",
        choices=("given", *EFFORTS),
        default=["given", "standard"],
        help="efforts; 'given' has the settings that the docs had before, instead (default: given standard)",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train each dataset with chosen settings and, for comparison of the time, with given ones."""
    runs = []
    for name in arguments.datasets:
        for seed in arguments.seeds:
            for effort in arguments.efforts:
                values = read_dataset(arguments.data, name)
                runs.append(
                    {
                        "dataset": name,
                        "settings": effort,
                        "seed": seed,
                        **_train(
                            arguments.encoder, values, seed, effort, GIVEN_OF_FEW if name in FIRST_ROWS else GIVEN
                        ),
                    }
                )
                print(json.dumps(runs[-1]), flush=True)
    _print_table(arguments, runs)
    return {"benchmark": "defaults", "runs": runs}


def read_dataset(folder: Path, name: str) -> dict[str, Any]:
    """Return tasks and data of a dataset, as in a config.

    Args:
        folder: Folder with ``snips``, ``wnut17`` and ``clinc150``.
        name: One of `DATASETS`.
    """
    if name == "wnut17":
        files = {split: str(folder / name / f"{split}.conll") for split in ("train", "validation", "test")}
        task = {"name": NER, "type": "token_classification"}
        return {"tasks": [task], "data": {**files, "columns": {"tokens": 0, NER: 1}}}
    if name == "clinc150":
        files = {split: str(folder / name / f"{split}.csv") for split in ("train", "validation", "test")}
        return {"tasks": [{"name": INTENT, "type": "sequence_classification"}], "data": files}
    rows, labels = read_intents_and_slots(folder / "snips")
    if name == SEVERAL_INTENTS:
        rows = {split: join_texts(rows[split], number) for split, number in ROWS_OF_SEVERAL.items()}
    rows["train"] = rows["train"][: FIRST_ROWS.get(name)]
    tasks = [
        {"name": INTENT, "type": "sequence_classification", "labels": labels[INTENT]},
        {"name": SLOTS, "type": "token_classification", "labels": labels[SLOTS]},
    ]
    return {"tasks": tasks, "data": rows}


def _train(
    encoder: str, values: Mapping[str, Any], seed: int, effort: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Train with an effort, or with the given settings if it is ``"given"``; return scores and time."""
    values = {"encoder": encoder, **values}
    training: dict[str, Any] = {"seed": seed, "disable_tqdm": True, "logging_steps": 100}
    if effort == "given":
        training |= given
        values["tasks"] = [{**task, **GIVEN_OF_TASK} for task in values["tasks"]]
        values["data"] = {**values["data"], "label_subwords": "first"}
    else:
        values["effort"] = effort
    return timed_training({**values, "training": training}, lambda folder: _free_scores(folder, values["data"]))


def _free_scores(folder: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Score a model again without the constraints of its tasks; nothing if it has none."""
    model, tokenizer = load_model(folder)
    if not any(task.constrained_by for task in model.config.tasks):
        return {}
    model.config.tasks = [without_constraint(task) for task in model.config.tasks]
    return {f"{FREE}{split}": evaluate_model(model, tokenizer, data[split]) for split in ("validation", "test")}


def timed_training(
    values: Mapping[str, Any], measure: Callable[[str], Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Train in a folder that is deleted afterwards.

    Args:
        values: Values of a config, without ``output_dir``.
        measure: Measures more of the trained model in its folder. It is not part of the time.

    Returns:
        ``seconds``, ``processor_seconds``, the metrics, and what ``measure`` returns.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.from_dict({**values, "output_dir": folder})
        start, cpu = time.perf_counter(), time.process_time()
        metrics = run_training(config)
        result = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - cpu, **metrics}
        return result | dict(measure(folder) if measure is not None else {})


def _print_table(arguments: argparse.Namespace, runs: Sequence[Mapping[str, Any]]) -> None:
    print(f"\nseeds {', '.join(map(str, arguments.seeds))}; mean ± sd in percent; time of the processor, mean")
    for name in arguments.datasets:
        for effort in arguments.efforts:
            of_both = [run for run in runs if (run["dataset"], run["settings"]) == (name, effort)]
            for prefix in ("", FREE) if f"{FREE}test" in of_both[0] else ("",):
                cells = [f"{name:<15}{effort:<9}"]
                for split in ("validation", "test"):
                    for score in SCORES[name]:
                        values = [100 * run[f"{prefix}{split}"][score] for run in of_both]
                        cells.append(f"{score} {spread(values)}")
                cells.append(f"{statistics.mean(run['processor_seconds'] for run in of_both):.0f} s")
                print("  ".join([*cells, *(["without constrained_by"] if prefix else [])]))
