"""Rows that benchmarks are run on, and the folder of the benchmarks."""

from pathlib import Path

from tests.tiny import ROWS

SCRIPTS = Path(__file__).parents[2] / "scripts"
SPLITS = {"train": ROWS, "validation": ROWS[:9], "test": ROWS[9:]}
