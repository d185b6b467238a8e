"""Whole runs: from a config to a model directory."""
