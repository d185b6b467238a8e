"""Resumable predictions for files of any size, in chunks, on any number of processes."""

from .batch_size import AUTO
from .file_job import BulkPrediction, PredictionCounts

__all__ = ["AUTO", "BulkPrediction", "PredictionCounts"]
