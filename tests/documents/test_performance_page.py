"""The commands of docs/PERFORMANCE.md run as they are written, on fewer rows."""

import json
from pathlib import Path

import pytest

from tests.documents.blocks import claim, run_commands

DATA = claim("docs/PERFORMANCE.md", "bash", "benchmark.py data")


@pytest.mark.slow
def test_what_preparing_rows_costs(encoder, benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = f"benchmark.py data --encoder {encoder} --rows 200 --repeats 1 --sizes 200"
    run_commands(DATA, {"benchmark.py data": few}, {"python scripts/benchmark.py": benchmark})
    assert json.loads(Path("data.json").read_text())["rows"] == 200
