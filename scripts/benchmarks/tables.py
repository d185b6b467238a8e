"""Cells and lines of the tables that benchmarks print."""

import statistics
from collections.abc import Sequence


def markdown_line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """Return the mean ± the standard deviation of values, such as the scores of the seeds."""
    return f"{statistics.mean(values):.2f} ± {statistics.pstdev(values):.2f}"
