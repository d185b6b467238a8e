"""Benchmarks of the library. Each prints a table and can write its results as JSON.

``python scripts/benchmark.py scores --data DIR`` trains on a dataset with intents and slots and prints the scores.
``python scripts/benchmark.py defaults --data DIR`` trains configs that name encoder, tasks and data alone.
``python scripts/benchmark.py mix CONFIG`` trains on datasets with one task each, mixed and separately.
``python scripts/benchmark.py rules --data DIR`` checks the advice on how much to unfreeze with how many rows.
``python scripts/benchmark.py probe --data DIR`` probes the rows of ``rules`` and measures the time.
``python scripts/benchmark.py few-rows --data DIR`` trains on a few rows per intent and compares with SetFit.
``python scripts/benchmark.py data`` measures the cost of preparing, mixing and streaming rows.
``python scripts/benchmark.py speed --data DIR`` compares the speed of training with plain trainers.
``python scripts/benchmark.py inference --data DIR`` compares predictions with two stock pipelines.
``python scripts/benchmark.py serving --data DIR`` compares the server with the pipeline, and what it withstands.
``python scripts/benchmark.py growth`` measures the cost of training by rows, tokens and layers.
``python scripts/benchmark.py accelerator`` measures trainings and predictions in all precisions, meant for a GPU.
``python scripts/benchmark.py converged --data DIR`` compares freezing what has stopped learning with freezing nothing.
``python scripts/benchmark.py study --data DIR`` compares a study with the same runs as separate commands.
``python scripts/benchmark.py race --data DIR`` compares the choice and the time of a race with the full study.
``python scripts/benchmark.py distill --data DIR`` measures the gain of a teacher with unlabeled rows, and of averages.
``python scripts/benchmark.py tune --data DIR`` searches for settings and compares the winner with the config itself.
``python scripts/benchmark.py compile`` measures the gain or cost of torch.compile on this machine.
``python scripts/benchmark.py label-issues --data DIR`` counts how many exchanged labels are found.
``python scripts/benchmark.py sharing`` measures the cost of conflict_steps, loss_balancing and private layers.
``python scripts/benchmark.py sharing-scores --data DIR`` trains with each method, and prints scores and time.
``python scripts/benchmark.py packing --data DIR`` measures what packing saves in batches of two datasets.
``python scripts/benchmark.py abstention`` measures the cost of abstaining from texts out of scope.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.abstention import abstention
from benchmarks.accelerator import accelerator
from benchmarks.compilation import compilation
from benchmarks.converged import converged
from benchmarks.data import data
from benchmarks.defaults import DATASETS, defaults
from benchmarks.distill import distill
from benchmarks.few_rows import METHODS, few_rows
from benchmarks.growth import growth
from benchmarks.inference import inference
from benchmarks.label_issues import DATASETS as LABELED_DATASETS
from benchmarks.label_issues import label_issues
from benchmarks.packing import packing
from benchmarks.probe import probe
from benchmarks.race import SCENARIOS as RACE_SCENARIOS
from benchmarks.race import race
from benchmarks.random_workload import encoder_shape
from benchmarks.rules import FREEZES, rules
from benchmarks.scores import BASE, VARIANTS, scores, variant
from benchmarks.serving import MEASUREMENTS as SERVING_MEASUREMENTS
from benchmarks.serving import serving
from benchmarks.sharing import sharing
from benchmarks.sharing_scores import DATASETS as SHARED_DATASETS
from benchmarks.sharing_scores import NAMES, sharing_scores
from benchmarks.speed import MEASUREMENTS, speed
from benchmarks.study import SCENARIOS, study
from benchmarks.training import mix
from benchmarks.tune import tune

from hf_multitask.training.settings import EFFORTS

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("scores", help="scores of joint training on intents and slots")
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--epochs", type=int, default=6, help="epochs (default: %(default)s)")
    command.add_argument(
        "--learning-rate", type=float, default=3e-4, help="learning rate of the encoder (default: %(default)s)"
    )
    command.add_argument(
        "--head-learning-rate", type=float, default=2e-3, help="learning rate of the heads (default: %(default)s)"
    )
    command.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    command.add_argument("--train-rows", type=int, help="train on the first n rows (default: all)")
    command.add_argument(
        "--variants",
        type=variant,
        nargs="+",
        default=[BASE],
        metavar="NAME",
        help=f"{', '.join(VARIANTS)}, or several joined by + (default: {BASE})",
    )
    command.set_defaults(run=scores)
    command = commands.add_parser("defaults", help="scores and time with chosen settings")
    command.add_argument("--data", type=Path, required=True, help="folder with snips, wnut17 and clinc150")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), help="default: all")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    command.add_argument(
        "--efforts",
        nargs="+",
        choices=("given", *EFFORTS),
        default=["given", "standard"],
        help="efforts; 'given' has the settings of the README instead (default: given standard)",
    )
    command.set_defaults(run=defaults)
    command = commands.add_parser("mix", help="test scores of datasets with one task each, mixed and separately")
    command.add_argument("config", type=Path, help="config in which each dataset names its tasks")
    command.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="random seeds (default: 0 1 2 3 4)"
    )
    command.set_defaults(run=mix)
    _add_rules(commands.add_parser("rules", help="how much to unfreeze with how many rows"))
    _add_probe(commands.add_parser("probe", help="what can be read at each depth of an encoder, and what that costs"))
    _add_few_rows(commands.add_parser("few-rows", help="intents from few rows, compared with SetFit"))
    command = commands.add_parser("data", help="cost of preparing, mixing and streaming rows")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows", type=int, default=100_000, help="rows to prepare and mix (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds of each measurement (default: %(default)s)")
    command.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        help="numbers of rows to stream (default: 10^4 to 10^6)",
    )
    command.set_defaults(run=data)
    _add_speed(
        commands.add_parser("speed", help="speed of training compared with plain trainers, tasknet and a bare loop")
    )
    _add_accelerator(commands.add_parser("accelerator", help="speed and memory on a GPU, as tables in Markdown"))
    _add_inference(commands.add_parser("inference", help="speed of predictions compared with two stock pipelines"))
    _add_serving(commands.add_parser("serving", help="server compared with the pipeline, and what it withstands"))
    command = commands.add_parser("growth", help="cost of training by rows, tokens and layers")
    command.add_argument("--repeats", type=int, default=3, help="rounds at each size (default: %(default)s)")
    command.set_defaults(run=growth)
    command = commands.add_parser("sharing", help="cost of conflict_steps, loss_balancing, private layers")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    command.add_argument("--steps", type=int, default=50, help="steps of a training (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    command.add_argument(
        "--only", nargs="+", help="names of the table that are compared with a plain run (default: all)"
    )
    command.set_defaults(run=sharing)
    _add_sharing_scores(commands.add_parser("sharing-scores", help="scores of methods that balance tasks"))
    command = commands.add_parser("abstention", help="cost of abstaining from texts out of scope")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows", type=int, default=512, help="texts to predict (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="texts per pass (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    command.set_defaults(run=abstention)
    command = commands.add_parser("compile", help="gain or cost of torch.compile")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--backend", default="inductor", help="backend of torch.compile (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds of the measurement (default: %(default)s)")
    command.set_defaults(run=compilation)
    command = commands.add_parser("packing", help="time that packing saves in batches of two datasets")
    command.add_argument("--data", type=Path, required=True, help="folder with wnut17 and clinc150")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    command.add_argument("--steps", type=int, default=20, help="steps of a training (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds of the measurement (default: %(default)s)")
    command.set_defaults(run=packing)
    _add_distill(commands.add_parser("distill", help="gain of a teacher with unlabeled rows, and of averaged weights"))
    _add_converged(commands.add_parser("converged", help="freezing layers that have stopped learning"))
    _add_label_issues(commands.add_parser("label-issues", help="labels exchanged at random that are found"))
    _add_race(commands.add_parser("race", help="choice and time of a race compared with the full study"))
    _add_study(commands.add_parser("study", help="time of a study compared with the same runs as separate commands"))
    _add_tune(commands.add_parser("tune", help="time of a search for settings, and scores of its winner"))
    for command in commands.choices.values():
        command.add_argument("--output", type=Path, help="JSON file to write the results to")
    return parser


def _add_sharing_scores(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with snips, wnut17 and clinc150")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--datasets", nargs="+", choices=SHARED_DATASETS, default=list(SHARED_DATASETS))
    command.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    command.add_argument("--epochs", type=float, help="epochs (default: those of the settings)")
    command.set_defaults(run=sharing_scores)


def _add_serving(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, help="folder with test.jsonl; rows are generated if it is left out")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows", type=int, default=700, help="number of texts (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="texts per pass (default: %(default)s)")
    command.add_argument("--clients", type=int, default=32, help="clients at the same time (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    command.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (default: all cores)")
    command.add_argument("--workers", type=int, default=1, help="processes of the server (default: %(default)s)")
    command.add_argument(
        "--long-run", type=int, default=1_000_000, help="requests whose memory is watched (default: %(default)s)"
    )
    command.add_argument(
        "--malformed", type=int, default=10_000, help="malformed requests to be refused (default: %(default)s)"
    )
    command.add_argument(
        "--only", choices=SERVING_MEASUREMENTS, nargs="+", default=SERVING_MEASUREMENTS, help="what to measure"
    )
    command.set_defaults(run=serving)


def _add_rules(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[50, 100, 500, 1000],
        help="numbers of training rows (default: 50 100 500 1000)",
    )
    command.add_argument(
        "--freeze", nargs="+", default=list(FREEZES), help=f"freeze schedules (default: {' '.join(FREEZES)})"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="random seeds (default: 0 1)")
    command.add_argument(
        "--least-steps", type=int, default=160, help="minimum number of steps of a run (default: %(default)s)"
    )
    command.add_argument(
        "--least-epochs", type=int, default=4, help="minimum number of epochs of a run (default: %(default)s)"
    )
    command.add_argument(
        "--learning-rate", type=float, default=3e-4, help="learning rate of the encoder (default: %(default)s)"
    )
    command.add_argument(
        "--head-learning-rate", type=float, default=2e-3, help="learning rate of the heads (default: %(default)s)"
    )
    command.set_defaults(run=rules)


def _add_probe(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument(
        "--sizes", type=int, nargs="+", default=[50, 100, 500, 1000], help="numbers of rows (default: 50 to 1,000)"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the draws (default: 0 1)")
    command.set_defaults(run=probe)


def _add_few_rows(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", type=Path, required=True, help="folder with train and test, .jsonl or .csv with an intent per text"
    )
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows-per-class", type=int, default=8, help="rows of each intent (default: %(default)s)")
    command.add_argument(
        "--rows", type=int, help="number of rows of all intents together, instead of --rows-per-class"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    command.add_argument(
        "--methods",
        nargs="*",
        choices=METHODS,
        default=list(METHODS),
        help=f"our trainings (default: {' '.join(METHODS)})",
    )
    command.add_argument("--setfit-python", type=Path, help="Python of an environment with SetFit, to compare with it")
    command.add_argument(
        "--num-iterations", type=int, help="pairs of each kind per row in SetFit (default: all pairs, as SetFit does)"
    )
    command.set_defaults(run=few_rows)


def _add_speed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, help="folder with train.jsonl (default: generated rows)")
    command.add_argument(
        "--encoder", default=ENCODER, help="hub name or folder of an encoder like BERT (default: %(default)s)"
    )
    command.add_argument("--rows", type=int, default=4000, help="rows per epoch (default: %(default)s)")
    command.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds of each setting (default: %(default)s)")
    command.add_argument(
        "--only",
        nargs="+",
        choices=MEASUREMENTS,
        metavar="NAME",
        help=f"measurements: {', '.join(MEASUREMENTS)} (default: all)",
    )
    command.add_argument(
        "--full", action="store_true", help="run all epochs of plain trainers, even if every epoch costs the same"
    )
    command.add_argument(
        "--store-frozen",
        default="auto",
        choices=["auto", "always", "never"],
        help="whether to cache the states of frozen layers (default: %(default)s)",
    )
    command.add_argument("--tasknet-python", type=Path, help="Python of an environment with tasknet")
    command.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="number of torch threads (default: all cores)"
    )
    command.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="device (default: %(default)s)")
    command.set_defaults(run=speed)


def _add_inference(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, help="folder with test.jsonl (default: generated rows)")
    command.add_argument(
        "--encoder", default=ENCODER, help="hub name or folder of an encoder like BERT (default: %(default)s)"
    )
    command.add_argument("--rows", type=int, default=700, help="number of texts per pass (default: %(default)s)")
    command.add_argument(
        "--single-texts", type=int, default=200, help="number of texts predicted one at a time (default: %(default)s)"
    )
    command.add_argument("--batch-size", type=int, default=32, help="texts per batch (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    command.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000],
        help="numbers of rows of files (default: 10^4 and 10^6)",
    )
    command.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="number of torch threads (default: all cores)"
    )
    command.set_defaults(run=inference)


def _add_distill(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    numbers = {
        "labeled-rows": (400, "rows with labels"),
        "unlabeled-rows": (4000, "rows after them, used without labels"),
        "teachers": (1, "teachers; several are an ensemble"),
        "batch-size": (8, "rows per step on labeled rows"),
        "epochs": (10, "epochs on labeled rows"),
        "distill-batch-size": (16, "rows per step with unlabeled rows"),
        "distill-epochs": (4, "epochs with unlabeled rows"),
        "learning-rate": (3e-4, "learning rate of the encoder"),
        "head-learning-rate": (1e-3, "learning rate of the heads"),
        "temperature": (2.0, "temperature of the distillation"),
        "weight": (1.0, "weight of the distillation"),
    }
    for name, (default, text) in numbers.items():
        command.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    command.set_defaults(run=distill)


def _add_converged(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with snips, wnut17 and clinc150")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--datasets", nargs="+", choices=DATASETS, default=["snips-400"], help="default: snips-400")
    numbers = {
        "epochs": (10, "epochs"),
        "batch-size": (16, "rows per step"),
        "learning-rate": (3e-4, "learning rate of the encoder"),
        "head-learning-rate": (2e-3, "learning rate of the heads"),
        "layer-lr-decay": (0.85, "factor of the learning rate from each layer to the one below"),
        "keep": (0.3, "share of the layers that keep training"),
    }
    for name, (default, text) in numbers.items():
        command.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    command.add_argument(
        "--aggressiveness", type=float, nargs="+", default=[0.5, 1, 2], help="options of the preset (default: 0.5 1 2)"
    )
    command.set_defaults(run=converged)


def _add_label_issues(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with clinc150, clinc150_oos and snips")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument(
        "--datasets", nargs="+", choices=LABELED_DATASETS, default=list(LABELED_DATASETS), help="default: all"
    )
    command.add_argument("--rows", type=int, help="number of training rows, chosen at random (default: all)")
    command.add_argument("--folds", type=int, default=2, help="number of trainings (default: %(default)s)")
    command.add_argument("--effort", choices=EFFORTS, default="quick", help="effort (default: %(default)s)")
    command.add_argument("--freeze", nargs="*", default=[], help="groups that do not train (default: none)")
    command.add_argument("--share", type=float, default=0.02, help="share of exchanged labels (default: %(default)s)")
    command.add_argument("--seeds", type=int, nargs="+", default=[0], help="random seeds (default: 0)")
    command.set_defaults(run=label_issues)


def _add_race(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--folder", type=Path, required=True, help="folder of the studies; the same one continues")
    command.add_argument(
        "--sizes", type=int, nargs="+", default=[50, 100, 500, 1000], help="training rows (default: 50 100 500 1000)"
    )
    command.add_argument("--scenarios", nargs="+", default=list(RACE_SCENARIOS), help="what races (default: eight)")
    numbers = {
        "seeds": (3, "seeds of the full study"),
        "train-rows": (3000, "first rows, of which each seed draws its own"),
        "validation-rows": (100, "first rows that are evaluated during a training"),
        "learning-rate": (3e-4, "learning rate of the encoder"),
        "head-learning-rate": (2e-3, "learning rate of the heads"),
    }
    for name, (default, text) in numbers.items():
        command.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    command.set_defaults(run=race)


def _add_study(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows", type=int, default=1000, help="training rows (default: %(default)s)")
    command.add_argument("--epochs", type=int, default=3, help="epochs of each run (default: %(default)s)")
    command.add_argument(
        "--scenarios", nargs="+", default=list(SCENARIOS), help="scenarios to compare (default: eight)"
    )
    command.add_argument("--processes", type=int, default=1, help="processes of the study (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=1, help="rounds (default: %(default)s)")
    command.set_defaults(run=study)


def _add_tune(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    command.add_argument("--encoder", default=ENCODER, help="hub name or folder of the encoder (default: %(default)s)")
    command.add_argument("--rows", type=int, default=400, help="training rows (default: %(default)s)")
    command.add_argument("--trials", type=int, default=20, help="trials of the search (default: %(default)s)")
    command.add_argument("--seeds", type=int, default=3, help="seeds of the winner (default: %(default)s)")
    command.set_defaults(run=tune)


def _add_accelerator(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=int, default=40, help="steps per training (default: %(default)s)")
    command.add_argument("--texts", type=int, default=2048, help="texts to predict (default: %(default)s)")
    command.add_argument(
        "--batch-size", type=int, default=128, help="rows per step and texts per batch (default: %(default)s)"
    )
    command.add_argument("--length", type=int, default=128, help="tokens per row (default: %(default)s)")
    command.add_argument(
        "--shapes",
        type=encoder_shape,
        nargs="+",
        default=[encoder_shape("6x384"), encoder_shape("12x768")],
        metavar="LAYERSxWIDTH",
        help="sizes of the encoder (default: 6x384 12x768, those of MiniLM and of BERT-base)",
    )
    command.add_argument("--repeats", type=int, default=1, help="rounds (default: %(default)s)")
    command.add_argument("--workers", type=int, default=4, help="dataloader workers (default: %(default)s)")
    command.add_argument(
        "--matrix-size",
        type=int,
        default=8192,
        help="size of the matrices whose products are the limit of the card (default: %(default)s)",
    )
    command.set_defaults(run=accelerator)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and print its table.

    Args:
        argv: Command-line arguments. Defaults to the arguments of the process.

    Returns:
        0.
    """
    arguments = _parser().parse_args(argv)
    result = arguments.run(arguments)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
