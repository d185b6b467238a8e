"""Benchmarks of the library. Each prints a table and can write its results as JSON.

``python scripts/benchmark.py NAME --help`` lists what a benchmark takes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    abstention,
    accelerator,
    compilation,
    converged,
    data,
    defaults,
    distill,
    few_rows,
    growth,
    inference,
    label_issues,
    lora,
    mix,
    packing,
    probe,
    race,
    rules,
    scores,
    serving,
    sharing,
    sharing_scores,
    signals,
    speed,
    study,
    tune,
)

# Each module has a docstring whose first line describes it, `add_arguments`, and `run`, which returns its results.
BENCHMARKS = {
    "scores": scores,
    "defaults": defaults,
    "mix": mix,
    "rules": rules,
    "probe": probe,
    "few-rows": few_rows,
    "data": data,
    "speed": speed,
    "inference": inference,
    "serving": serving,
    "growth": growth,
    "accelerator": accelerator,
    "converged": converged,
    "signals": signals,
    "study": study,
    "race": race,
    "lora": lora,
    "distill": distill,
    "tune": tune,
    "compile": compilation,
    "label-issues": label_issues,
    "sharing": sharing,
    "sharing-scores": sharing_scores,
    "packing": packing,
    "abstention": abstention,
}


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        description = (benchmark.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=description, description=description)
        benchmark.add_arguments(command)
        command.add_argument("--output", type=Path, help="JSON file to write the results to")
        command.set_defaults(run=benchmark.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
