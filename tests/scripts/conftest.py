"""Fixtures of the tests of benchmarks."""

import json

import pytest

from tests.scripts.splits import SPLITS


@pytest.fixture
def run(benchmark, tmp_path):
    """Return a function that runs a benchmark and returns its JSON results."""

    def run_benchmark(*arguments):
        path = tmp_path / "result.json"
        assert benchmark([*map(str, arguments), "--output", str(path)]) == 0
        return json.loads(path.read_text(encoding="utf-8"))

    return run_benchmark


@pytest.fixture
def datasets_folder(tmp_path, write_jsonl):
    """Return a folder with few rows in the place of each dataset."""
    for folder in ("snips", "clinc150", "wnut17"):
        (tmp_path / folder).mkdir()
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / "snips" / f"{split}.jsonl")
        texts = [f'"{" ".join(row["tokens"])}",{row["intent"].lower()}' for row in rows]
        (tmp_path / "clinc150" / f"{split}.csv").write_text("\n".join(["text,intent", *texts]), encoding="utf-8")
        words = ["\n".join(map("\t".join, zip(row["tokens"], row["slots"], strict=True))) for row in rows]
        (tmp_path / "wnut17" / f"{split}.conll").write_text("\n\n".join(words), encoding="utf-8")
    return tmp_path
