"""Training at the size of BERT-base in bf16: examples per second, share of the device's peak, memory by stage.

Weights and tokens are random. The benchmark also runs without an accelerator, but its numbers mean little then.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_multitask import MultiTaskModel
from hf_multitask.freezing.stage_results import STAGES_NAME
from hf_multitask.models.layer_groups import EMBEDDINGS

from .bare_loop import BareLoop
from .machine import machine_facts
from .our_trainer import build_trainer, time_joint_training
from .random_workload import EncoderShape, random_workload
from .timing import time_in_turns, time_training
from .workload import Workload, silence_libraries

STAGE_EPOCHS = 3  # one per stage
MIB = 2**20


def accelerator(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare joint training with a bare loop, and measure the peak memory of each stage of ``three-stage``."""
    silence_libraries()
    options = {"bf16": True, "dataloader_num_workers": arguments.workers}
    with tempfile.TemporaryDirectory() as folder:
        shape = EncoderShape(arguments.layers, arguments.hidden_size)
        rows = arguments.steps * arguments.batch_size
        work = random_workload(Path(folder), shape, rows, arguments.length, arguments.batch_size)
        seconds = _time_in_turns(work, arguments.repeats, options)
        stages = _peak_memory_of_stages(work, options)
        model = MultiTaskModel.from_encoder(folder, work.data.tasks)
    flops = flops_per_example(model, arguments.length)
    runs = {}
    for name, times in seconds.items():
        rate = rows / statistics.median(times)
        share = rate * flops / (arguments.peak_tflops * 1e12)
        runs[name] = {"examples_per_second": rate, "share_of_peak": share, "all_seconds": times}
    ratios = [bare / ours for bare, ours in zip(seconds["bare_loop"], seconds["ours"], strict=True)]
    result = {
        "benchmark": "accelerator",
        "machine": machine_facts(),
        "device": work.device,
        "length": arguments.length,
        "batch_size": arguments.batch_size,
        "layers": arguments.layers,
        "hidden_size": arguments.hidden_size,
        "flops_of_example": flops,
        "peak_tflops": arguments.peak_tflops,
        "runs": runs,
        "ratio": statistics.median(ratios),
        "stages": stages,
    }
    _print_result(result)
    return result


def flops_per_example(model: MultiTaskModel, length: int) -> float:
    """Return the number of floating-point operations of training on one example, forward and backward.

    6 per weight and token; embeddings are only looked up. The products of attention have no weights: 12 per layer,
    unit of the hidden size and pair of tokens.

    Args:
        model: The model.
        length: Number of tokens per example.
    """
    config = model.encoder.config
    weights = sum(group.num_parameters for group in model.layer_groups() if group.name != EMBEDDINGS)
    return 6 * weights * length + 12 * config.num_hidden_layers * config.hidden_size * length**2


def _time_in_turns(work: Workload, repeats: int, options: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the seconds per epoch of each round, by run.

    The batches of the bare loop are freed on return, so that the memory of the stages does not include them.
    """
    bare_loop = BareLoop(work)
    functions: dict[str, Callable[[], float]] = {
        "bare_loop": lambda: bare_loop.time(1, bf16=True),
        "ours": lambda: time_joint_training(work, 1, **options),
    }
    return time_in_turns(functions, repeats)


def _peak_memory_of_stages(work: Workload, options: Mapping[str, Any]) -> dict[str, float]:
    """Train in stages and return the peak memory of each in MiB: of the device, or resident memory without one."""
    with tempfile.TemporaryDirectory() as folder:
        time_training(build_trainer(work, folder, STAGE_EPOCHS, "three-stage", **options))
        stages = json.loads(Path(folder, STAGES_NAME).read_text(encoding="utf-8"))["stages"]
    return {stage["name"]: stage["peak_memory_bytes"] / MIB for stage in stages}


def _print_result(result: Mapping[str, Any]) -> None:
    print(f"{result['device']}: {result['layers']} layers of width {result['hidden_size']}, bf16", end="")
    print(f", {result['batch_size']} rows of {result['length']} tokens per step")
    print(f"\n{'':<12}{'examples/s':>12}{'share of peak':>16}")
    for name, run in result["runs"].items():
        print(f"{name:<12}{run['examples_per_second']:>12.1f}{run['share_of_peak']:>16.3%}")
    print(f"\nours vs. the bare loop: {result['ratio']:.2f}")
    print(f"\n{'stage':<16}{'peak MiB':>10}")
    for stage, peak in result["stages"].items():
        print(f"{stage:<16}{peak:>10,.0f}")
