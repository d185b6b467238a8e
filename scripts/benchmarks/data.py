"""Cost of the way from rows to batches: aligning, mixing, streaming."""

import argparse
import os
from typing import Any

import datasets

from hf_multitask import load_tokenizer

from .alignment import compare_alignment
from .arguments import add_encoder, add_numbers
from .mixing import compare_mixing
from .rows import generate_rows
from .streaming import measure_streams
from .timing import print_table

# Maximum ratios.
ALIGNMENT_BAR = 1.5
MIXING_BAR = 1.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py data``."""
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "rows": (100_000, "rows to prepare and mix"),
            "repeats": (5, "rounds of each measurement"),
            "sizes": ([10_000, 100_000, 1_000_000], "numbers of rows to stream"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare aligning with the tokenizer and mixing with one dataset, and measure the memory of streams."""
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(arguments.encoder)
    rows = list(generate_rows(arguments.rows))
    words = sum(len(row["tokens"]) for row in rows)
    print(f"{len(rows):,} rows, {words:,} words, {arguments.repeats} rounds in turns", flush=True)
    alignment = compare_alignment(rows, tokenizer, arguments.repeats)
    print_table(f"Aligning (aligner: at most {ALIGNMENT_BAR} times the tokenizer)", alignment)
    mixing = compare_mixing(rows, arguments.encoder, tokenizer, arguments.repeats)
    print_table(f"Batches of two datasets (at most {MIXING_BAR} times the cost of one)", mixing)
    streaming = measure_streams(arguments.sizes, arguments.encoder)
    peaks = [line["peak_mib"] for line in streaming]
    print(f"\nStreaming: peaks differ by {max(peaks) - min(peaks):.0f} MiB")
    names = ("rows", "rows_per_second", "rows_per_cpu_second", "start_mib", "peak_mib")
    print("".join(f"{name.replace('_', ' '):>22}" for name in names))
    for line in streaming:
        print("".join(f"{line[name]:22,.0f}" for name in names))
    return {
        "benchmark": "data",
        "encoder": str(arguments.encoder),
        "rows": len(rows),
        "words": words,
        "repeats": arguments.repeats,
        "cpus": os.cpu_count(),
        "bars": {"alignment": ALIGNMENT_BAR, "mixing": MIXING_BAR},
        "alignment": alignment,
        "mixing": mixing,
        "streaming": streaming,
    }
