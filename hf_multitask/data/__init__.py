"""Data: reading, checking, aligning to subwords, mixing, batching."""

from ..models.collator import ROW_NUMBER_COLUMN, MultiTaskDataCollator
from .data_config import SPLITS, DataConfig
from .mixing import MixedOrder, Sampling
from .preparation import DATA_SET_COLUMN, PreparedData, prepare_datasets
from .readers import load_hub_split, read_rows
from .report import SplitReport
from .rows import Rows
from .sampling import LengthGroupedSampler, LengthSortedSampler
from .streaming import StreamBatches, TrainingStream
from .token_batches import SortedTokenBatchSampler, TokenBatchSampler

__all__ = [
    "DATA_SET_COLUMN",
    "ROW_NUMBER_COLUMN",
    "SPLITS",
    "DataConfig",
    "LengthGroupedSampler",
    "LengthSortedSampler",
    "MixedOrder",
    "MultiTaskDataCollator",
    "PreparedData",
    "Rows",
    "Sampling",
    "SortedTokenBatchSampler",
    "SplitReport",
    "StreamBatches",
    "TokenBatchSampler",
    "TrainingStream",
    "load_hub_split",
    "prepare_datasets",
    "read_rows",
]
