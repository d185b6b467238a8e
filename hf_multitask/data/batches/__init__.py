"""Rows to batches: mixing of datasets, samplers, batches by tokens."""
