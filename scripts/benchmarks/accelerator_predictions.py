"""Speed and memory of predictions on a device: two stock pipelines, ours, and passes of the model alone."""

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from hf_multitask import MultiTaskModel

from .device_runs import Precision, RunResult, peak_bytes, precisions, reset_peak
from .random_workload import SPECIAL_TOKENS, VOCAB_SIZE
from .timing import wait_for_device
from .workload import SEED, Workload

# Random heads would find an entity in each word, whose number decides the time of both.
BIAS_TO_OUTSIDE = 10.0


# Function that predicts texts.
Predict = Callable[[Sequence[str]], object]


@dataclass(frozen=True)
class _Run:
    """A way to predict texts.

    Args:
        name: Name in the table.
        precision: Its precision.
        build: Returns a function that predicts texts. Its models are on the device for its run only.
        is_stock: See `RunResult`.
    """

    name: str
    precision: Precision
    build: Callable[[Workload, Path, Precision], Predict]
    is_stock: bool = False


def measure_predictions(work: Workload, folder: Path, texts: int, length: int, repeats: int) -> list[RunResult]:
    """Time predictions of texts, one run after the other.

    Args:
        work: Workload.
        folder: Folder to save the model to.
        texts: Number of texts.
        length: Maximum number of tokens per text; the minimum is a quarter of it.
        repeats: Number of rounds.

    Returns:
        The results, those of the stock pipelines first.
    """
    drawn = random_texts(texts, length)
    # Two more than its words: the tokens at its ends.
    mean_length = sum(len(text.split()) + 2 for text in drawn) / len(drawn)
    saved = _save_model(work, folder / "model")
    results = []
    for run in _runs():
        gc.collect()
        reset_peak()
        predict = run.build(work, saved, run.precision)
        predict(drawn[: work.batch_size])  # the first pass allocates memory
        rates = []
        for _ in range(repeats):
            wait_for_device()
            start = time.perf_counter()
            predict(drawn)
            wait_for_device()
            rates.append(len(drawn) / (time.perf_counter() - start))
        del predict  # and its models, before the next ones are loaded
        # Two stock models run each layer twice.
        results.append(
            RunResult(run.name, run.precision.name, rates, peak_bytes(), mean_length, run.is_stock, not run.is_stock)
        )
    return results


def random_texts(count: int, length: int) -> list[str]:
    """Return texts of random words, each of which is one token.

    Args:
        count: Number of texts.
        length: Maximum number of tokens, with those at both ends; the minimum is a quarter of it.
    """
    draw = random.Random(SEED)
    words = VOCAB_SIZE - len(SPECIAL_TOKENS)
    return [
        " ".join(str(draw.randrange(words)) for _ in range(draw.randint(max(length // 4, 3), length) - 2))
        for _ in range(count)
    ]


def _save_model(work: Workload, folder: Path) -> Path:
    # Stock models pool the first token.
    model = MultiTaskModel.from_encoder(work.encoder, work.data.tasks, pooling="cls")
    with torch.no_grad():
        model.heads.get_parameter("slots.classifier.bias")[0] = BIAS_TO_OUTSIDE
    model.save_pretrained(folder)
    work.tokenizer.save_pretrained(folder)
    return folder


def _runs() -> list[_Run]:
    known = precisions()
    stock = [
        _Run("two pipelines", precision, _two_pipelines, is_stock=True)
        for precision in known
        if precision.attention is None
    ]
    ours = [_Run("ours", precision, _pipeline) for precision in known]
    alone = [_Run("model alone", precision, _model_alone) for precision in known]
    return [*stock, *ours, *alone]


def _load(folder: Path, precision: Precision) -> MultiTaskModel:
    options: dict[str, Any] = {"dtype": precision.dtype}
    if precision.attention is not None:
        options["attn_implementation"] = precision.attention
    return MultiTaskModel.from_pretrained(folder, **options)


def _two_pipelines(work: Workload, folder: Path, precision: Precision) -> Predict:
    model = _load(folder, precision)
    options: dict[str, Any] = {"tokenizer": str(folder), "device": work.device, "batch_size": work.batch_size}
    intent = transformers.pipeline("text-classification", model.export_task("intent", None, work.tokenizer), **options)
    slots = transformers.pipeline("token-classification", model.export_task("slots", None, work.tokenizer), **options)

    def predict(texts: Sequence[str]) -> None:
        intent(list(texts))
        slots(list(texts), aggregation_strategy="simple")

    return predict


def _pipeline(work: Workload, folder: Path, precision: Precision) -> Predict:
    # The overloads of transformers list its own tasks only.
    predictor = transformers.pipeline(  # type: ignore[call-overload]
        "multi-task",
        _load(folder, precision),
        tokenizer=work.tokenizer,
        device=work.device,
        batch_size=work.batch_size,
    )
    return lambda texts: predictor(list(texts))


def _model_alone(work: Workload, folder: Path, precision: Precision) -> Predict:
    """Return a function that tokenizes texts and runs the model on batches of similar length."""
    model = _load(folder, precision).to(work.device).eval()  # type: ignore[arg-type]  # see BareLoop

    @torch.inference_mode()
    def predict(texts: Sequence[str]) -> None:
        ordered = sorted(texts, key=len, reverse=True)
        for start in range(0, len(ordered), work.batch_size):
            batch = work.tokenizer(ordered[start : start + work.batch_size], padding=True, return_tensors="pt")
            model(**batch.to(work.device))

    return predict
