"""What a probe says about the rows on which the rules were checked, and what it costs."""

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hf_multitask import RunConfig
from hf_multitask.probing import probe_layers

from .arguments import add_data, add_encoder, add_numbers
from .intents_and_slots import read_intents_and_slots
from .tables import markdown_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py probe``."""
    add_data(parser)
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "sizes": ([50, 100, 500, 1000], "numbers of rows"),
            "seeds": ([0, 1], "seeds of the draws"),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Probe the rows that ``rules`` trains on, for each number of rows and seed; validation is scored."""
    rows, labels = read_intents_and_slots(arguments.data)
    kinds = {"intent": "sequence_classification", "slots": "token_classification"}
    runs = []
    for seed in arguments.seeds:
        for size in arguments.sizes:
            train = random.Random(seed).sample(rows["train"], size)
            values = {
                "encoder": arguments.encoder,
                "tasks": [{"name": name, "type": kinds[name], "labels": labels[name]} for name in kinds],
                "data": {"train": train, "validation": rows["validation"]},
                "training": {"seed": seed},
                "output_dir": "unused",
            }
            start = time.process_time()
            found = probe_layers(RunConfig.from_dict(values), size)
            runs.append({"rows": size, "seed": seed, "processor_seconds": time.process_time() - start})
            runs[-1] |= found.to_dict()
            print(json.dumps(runs[-1]), flush=True)
    print("\n" + "\n".join(table(runs)))
    return {"benchmark": "probe", "encoder": arguments.encoder, "runs": runs}


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of the mean scores by depth, the steepest group, and the processor time.

    Args:
        runs: The probes, each with ``rows`` and ``seed``.

    Returns:
        Lines of the table.
    """
    depths = [f"depth {depth}" for depth in range(len(runs[0]["depths"]))]
    header = ["rows", "score", *depths, "largest gradient / weights", "processor seconds"]
    lines = [markdown_line(header), markdown_line(["---"] * len(header))]
    for size in dict.fromkeys(run["rows"] for run in runs):
        of_size = [run for run in runs if run["rows"] == size]
        seconds = statistics.mean(run["processor_seconds"] for run in of_size)
        for i, task in enumerate(of_size[0]["tasks"]):
            scores = zip(*(run["tasks"][i]["scores"] for run in of_size), strict=True)
            cells = [f"{100 * statistics.mean(of_depth):.1f}" for of_depth in scores]
            ratios = [run["tasks"][i]["gradient_ratios"] for run in of_size]
            steepest = " or ".join(sorted({max(groups, key=groups.get) for groups in ratios}))
            lines.append(
                markdown_line([f"{size:,}", f"{task['name']} {task['metric']}", *cells, steepest, f"{seconds:.0f}"])
            )
    return lines
