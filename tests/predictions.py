"""Comparison of predictions."""

import pytest


def assert_alike(found, expected, tolerance=1e-4):
    """Check that predictions have the same labels, words and characters, and scores within a tolerance."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance, rel=tolerance)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key], tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other, tolerance)
    else:
        assert found == expected
