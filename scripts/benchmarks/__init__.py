"""Benchmarks that ``scripts/benchmark.py`` runs."""
