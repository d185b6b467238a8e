"""Small files in the formats that the documents name."""

import csv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hf_multitask.quickstart import QUICKSTART_CONFIG


def write_conll(rows: Sequence[dict], path: Path, columns_between: int = 0) -> None:
    """Write words and their tags, a word a line, with so many other columns between them."""
    between = ["-"] * columns_between
    texts = (
        "\n".join("\t".join([word, *between, tag]) for word, tag in zip(row["tokens"], row["slots"], strict=True))
        for row in rows
    )
    path.write_text("\n\n".join(texts), encoding="utf-8")


def write_csv(rows: Sequence[dict], path: Path) -> None:
    """Write texts and their intents, a text a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = ([" ".join(row["tokens"]), row["intent"]] for row in rows)
        csv.writer(file).writerows([["text", "intent"], *lines])


def write_bundled(folder: Path, num_rows: int) -> None:
    """Write the first of the package's sentences, as its folder of them has them."""
    folder.mkdir()
    for path in QUICKSTART_CONFIG.parent.joinpath("data").glob("*.jsonl"):
        with path.open(encoding="utf-8") as file:
            folder.joinpath(path.name).write_text("".join(islice(file, num_rows)), encoding="utf-8")
