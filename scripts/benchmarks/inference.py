"""Speed of predictions compared with two stock pipelines and with a bare forward pass."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Pipeline, PrinterCallback

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.export import export_onnx

from .arguments import add_encoder, add_numbers
from .machine import machine_facts
from .peak_memory import peak_of_predictions
from .timing import time_in_turns
from .workload import Workload, make_workload, read_rows, silence_libraries

# By run: the run that it is compared with, and the minimum ratio of the speeds.
BARS = {
    "ours": ("two_pipelines", 3.1),
    "ours_bf16": ("two_pipelines", 4.5),
    "ours_onnx_int8": ("two_pipelines", 6.5),
    "ours (limit)": ("bare_forward", 0.85),
}
LATENCY_BAR, IMPORT_BAR, MEMORY_BAR = 0.5, 0.5, 1.1
TRAINING_EPOCHS = 3
TRAINING_RATES = {"learning_rate": 3e-4, "head_learning_rate": 2e-3}
IMPORT_PROGRAM = "import time; {0}; start = time.perf_counter(); {1}; print(time.perf_counter() - start)"
TRANSFORMERS_IMPORTS = "import torch; from transformers import AutoModel, AutoTokenizer, pipeline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py inference``."""
    parser.add_argument("--data", type=Path, help="folder with test.jsonl (default: generated rows)")
    add_encoder(parser, "an encoder like BERT")
    add_numbers(
        parser,
        {
            "rows": (700, "number of texts per pass"),
            "single-texts": (200, "number of texts predicted one at a time"),
            "batch-size": (32, "texts per batch"),
            "repeats": (5, "rounds"),
            "sizes": ([10_000, 1_000_000], "numbers of rows of files"),
            "threads": (os.cpu_count() or 1, "number of torch threads"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare predictions of many texts and of single texts, the import time and the memory of predicting files."""
    silence_libraries()
    # The stock pipelines would turn off the tokenizers' threads for the whole process.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    torch.set_num_threads(arguments.threads)
    work = make_workload(arguments.encoder, read_rows(arguments.data, arguments.rows, "test"), arguments.batch_size)
    texts = [" ".join(row["tokens"]) for row in work.rows]
    facts = machine_facts()
    print(
        f"{facts['processor']}, {facts['threads']} threads; {len(texts):,} texts, {arguments.repeats} rounds in turns"
    )
    with tempfile.TemporaryDirectory() as folder:
        pipelines = _pipelines(work, Path(folder))
        seconds = time_in_turns(_passes(work, pipelines, texts), arguments.repeats)
        latencies = _latencies(pipelines, texts[: arguments.single_texts])
    lines = [_compare(name, seconds) for name in BARS]
    lines.append(_line("latency", "two_pipelines", latencies["ours"] / latencies["two_pipelines"], LATENCY_BAR, False))
    lines.append(_line("import, seconds", "", _import_seconds(arguments.repeats), IMPORT_BAR, False))
    peaks = {size: peak_of_predictions(size, arguments.encoder, arguments.batch_size) for size in arguments.sizes}
    few, many = min(peaks), max(peaks)
    lines.append(_line(f"memory, {many:,} rows", f"{few:,} rows", peaks[many] / peaks[few], MEMORY_BAR, False))
    _print_lines(seconds, len(texts), lines)
    return {
        "benchmark": "inference",
        "machine": facts,
        "encoder": str(arguments.encoder),
        "texts": len(texts),
        "batch_size": arguments.batch_size,
        "seconds": seconds,
        "latency_seconds": latencies,
        "peak_mib": peaks,
        "comparisons": lines,
    }


def _pipelines(work: Workload, folder: Path) -> dict[str, Callable[..., Any]]:
    """Return predictors with the same weights, by name."""
    model = trained_model(work, folder / "run")
    model.save_pretrained(folder)
    work.tokenizer.save_pretrained(folder)
    export_onnx(folder, int8=True)
    stock: dict[str, Any] = {"tokenizer": str(folder), "device": "cpu"}
    intent = transformers.pipeline("text-classification", model.export_task("intent"), **stock)
    slots = transformers.pipeline("token-classification", model.export_task("slots"), **stock)

    def two_pipelines(texts: Any) -> None:
        intent(texts, batch_size=work.batch_size)
        slots(texts, batch_size=work.batch_size, aggregation_strategy="simple")

    def ours(**options: Any) -> Pipeline:
        # The overloads of transformers list its own tasks only.
        return transformers.pipeline(  # type: ignore[call-overload]
            "multi-task", str(folder), batch_size=work.batch_size, device="cpu", **options
        )

    return {
        "two_pipelines": two_pipelines,
        "ours": ours(),
        "ours_bf16": ours(dtype=torch.bfloat16),
        "ours_onnx_int8": ours(backend="onnx-int8"),
    }


def trained_model(work: Workload, folder: Path) -> MultiTaskModel:
    """Train briefly on the texts: the time that entities take depends on their number and on their scores."""
    # Stock models pool the first token.
    model = MultiTaskModel.from_encoder(work.encoder, work.data.tasks, pooling="cls")
    arguments = MultiTaskTrainingArguments(**(work.training_arguments(str(folder), TRAINING_EPOCHS) | TRAINING_RATES))
    trainer = MultiTaskTrainer(model, arguments, train_dataset=work.data["train"], processing_class=work.tokenizer)
    trainer.remove_callback(PrinterCallback)  # only the table is printed
    trainer.train()
    return model


def _passes(
    work: Workload, pipelines: dict[str, Callable[..., Any]], texts: Sequence[str]
) -> dict[str, Callable[[], float]]:
    """Return functions that predict all texts once and time themselves, by name."""
    model = MultiTaskModel.from_encoder(work.encoder, work.data.tasks).eval()
    lengths = [len(ids) for ids in work.tokenizer(list(texts))["input_ids"]]
    ordered = [texts[i] for i in sorted(range(len(texts)), key=lengths.__getitem__, reverse=True)]
    batches = [
        work.tokenizer(ordered[start : start + work.batch_size], padding=True, return_tensors="pt")
        for start in range(0, len(ordered), work.batch_size)
    ]

    @torch.inference_mode()
    def bare_forward(_: Any) -> None:
        for batch in batches:
            model.encoder(**batch)

    def timed(predict: Callable[..., Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            predict(list(texts))
            return time.perf_counter() - start

        return run

    passes = {name: timed(predict) for name, predict in {**pipelines, "bare_forward": bare_forward}.items()}
    for run in passes.values():
        run()  # the first pass allocates memory
    return passes


def _latencies(pipelines: dict[str, Callable[..., Any]], texts: Sequence[str]) -> dict[str, float]:
    """Return the median seconds per single text, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for text in texts:
        for name, predict in pipelines.items():
            start = time.perf_counter()
            predict(text)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _import_seconds(repeats: int) -> float:
    """Return the median seconds of importing this package after the transformers imports that it needs."""
    command = [sys.executable, "-c", IMPORT_PROGRAM.format(TRANSFORMERS_IMPORTS, "import hf_multitask")]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(repeats)]  # noqa: S603
    return statistics.median(float(run.split()[-1]) for run in runs)


def _compare(name: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    base, bar = BARS[name]
    rounds = zip(seconds[name.partition(" ")[0]], seconds[base], strict=True)
    return _line(name, base, statistics.median(theirs / own for own, theirs in rounds), bar, True)


def _line(name: str, base: str, ratio: float, bar: float, at_least: bool) -> dict[str, Any]:
    passed = ratio >= bar if at_least else ratio <= bar
    return {
        "name": name,
        "base": base,
        "ratio": ratio,
        "bar": bar,
        "bar_is": "at least" if at_least else "at most",
        "passed": passed,
    }


def _print_lines(seconds: dict[str, list[float]], texts: int, lines: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'':<20}{'seconds':>10}{'texts/s':>10}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<20}{median:>10.2f}{texts / median:>10.0f}")
    print(f"\n{'measurement':<26}{'against':<16}{'ratio':>8}{'bar':>10}")
    for line in lines:
        sign = ">=" if line["bar_is"] == "at least" else "<="
        verdict = "" if line["passed"] else "  missed"
        print(f"{line['name']:<26}{line['base']:<16}{line['ratio']:>8.2f}{sign:>5} {line['bar']:<5g}{verdict}")
