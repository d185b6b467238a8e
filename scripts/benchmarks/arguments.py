"""Arguments that several benchmarks have."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def add_data(parser: argparse.ArgumentParser, content: str = "train, validation and test .jsonl") -> None:
    """Add ``--data``, which has to be given.

    Args:
        parser: Parser of the benchmark.
        content: What is in the folder.
    """
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {content}")


def add_encoder(parser: argparse.ArgumentParser, kind: str = "the encoder") -> None:
    """Add ``--encoder``, by default all-MiniLM-L6-v2.

    Args:
        parser: Parser of the benchmark.
        kind: Which encoder it may be.
    """
    parser.add_argument("--encoder", default=ENCODER, help=f"hub name or folder of {kind} (default: %(default)s)")


def add_numbers(parser: argparse.ArgumentParser, numbers: Mapping[str, tuple[float | Sequence[float], str]]) -> None:
    """Add arguments that are numbers of the type of their default; with a sequence as the default, one or several.

    Args:
        parser: Parser of the benchmark.
        numbers: Default and description by name, without the dashes.
    """
    for name, (default, text) in numbers.items():
        values = default if isinstance(default, Sequence) else [default]
        parser.add_argument(
            f"--{name}",
            type=type(values[0]),
            nargs="+" if isinstance(default, Sequence) else None,
            default=default,
            help=f"{text} (default: {' '.join(map(str, values))})",
        )


def add_choices(parser: argparse.ArgumentParser, name: str, choices: Sequence[str], text: str) -> None:
    """Add an argument that takes one or several of some names, by default all.

    Args:
        parser: Parser of the benchmark.
        name: Name of the argument, without the dashes.
        choices: The names.
        text: Description.
    """
    parser.add_argument(f"--{name}", nargs="+", choices=choices, default=list(choices), help=f"{text} (default: all)")
