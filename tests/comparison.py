"""Comparison of nested results up to rounding."""

import pytest


def approximately(values, **tolerance):
    """Return an object that equals nested values up to the last digits of their numbers.

    Args:
        values: Numbers, or dicts and lists of them.
        tolerance: ``abs`` and ``rel`` of `pytest.approx`.
    """
    if isinstance(values, dict):
        return {key: approximately(value, **tolerance) for key, value in values.items()}
    if isinstance(values, list):
        return [approximately(value, **tolerance) for value in values]
    return pytest.approx(values, **tolerance) if isinstance(values, float) else values
