"""Comparison of what is computed in another way."""

import pytest


def approximately(values, **tolerance):
    """Return what equals values, of dicts and lists too, but for the last digits of their numbers.

    Args:
        values: The values.
        tolerance: ``abs`` and ``rel`` of `pytest.approx`.
    """
    if isinstance(values, dict):
        return {key: approximately(value, **tolerance) for key, value in values.items()}
    if isinstance(values, list):
        return [approximately(value, **tolerance) for value in values]
    return pytest.approx(values, **tolerance) if isinstance(values, float) else values
