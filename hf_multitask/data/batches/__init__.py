"""Batches of rows: mixing of datasets, samplers, batches counted in tokens."""
