"""Data: reading, checking, aligning to subwords, batching."""

from .collator import MultiTaskDataCollator
from .preparation import PreparedData, SplitReport, prepare_datasets
from .readers import load_hub_split, read_rows
from .rows import Rows
from .sampling import LengthGroupedSampler, LengthSortedSampler

__all__ = [
    "LengthGroupedSampler",
    "LengthSortedSampler",
    "MultiTaskDataCollator",
    "PreparedData",
    "Rows",
    "SplitReport",
    "load_hub_split",
    "prepare_datasets",
    "read_rows",
]
