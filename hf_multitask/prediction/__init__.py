"""Predictions for files of any size: read, predicted and written in chunks, on any number of processes, resumable."""

from .batch_size import AUTO
from .file_job import BulkPrediction, PredictionCounts

__all__ = ["AUTO", "BulkPrediction", "PredictionCounts"]
