"""Write the general sample that `recommend` measures the distance of a domain from.

The patterns in ``general_sample/`` are everyday English across topics. Each pattern gives a few different sentences.
"""

import argparse
import random
from pathlib import Path

from make_bundled_data import expand, read_lines

PATTERNS = Path(__file__).resolve().parent / "general_sample" / "patterns.txt"
OUTPUT = Path(__file__).resolve().parent.parent / "hf_multitask" / "recommendation" / "general_sample.txt"
SENTENCES_PER_PATTERN = 3
# Attempts to draw different sentences: patterns with few choices may give the same sentence again.
MAX_DRAWS = 20


def make_sentences(patterns: list[str], rng: random.Random) -> list[str]:
    """Expand each pattern into different sentences.

    Args:
        patterns: The patterns.
        rng: Random number generator.

    Returns:
        The sentences, in the order of their patterns.
    """
    sentences: dict[str, None] = {}
    for pattern in patterns:
        drawn: dict[str, None] = {}
        for _ in range(MAX_DRAWS):
            if len(drawn) < SENTENCES_PER_PATTERN:
                drawn[expand(pattern, rng)] = None
        sentences |= drawn
    return list(sentences)


def main() -> None:
    """Write the sample, one sentence per line."""
    parser = argparse.ArgumentParser(description="Write the general sample.")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: the package's)")
    arguments = parser.parse_args()
    sentences = make_sentences(read_lines(PATTERNS), random.Random(arguments.seed))
    arguments.output.write_text("\n".join(sentences) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(sentences)} sentences")


if __name__ == "__main__":
    main()
