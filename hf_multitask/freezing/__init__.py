"""Freezing groups of a model."""

from .apply import freeze, group_modules, select_groups

__all__ = ["freeze", "group_modules", "select_groups"]
