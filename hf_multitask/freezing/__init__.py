"""Freezing groups of a model."""

from .apply import freeze

__all__ = ["freeze"]
