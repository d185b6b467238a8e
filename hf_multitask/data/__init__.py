"""Data: reading, checking, aligning to subwords, mixing, batching."""

from ..models.collator import ROW_NUMBER_COLUMN, MultiTaskDataCollator
from .batches.mixing import MixedOrder, Sampling
from .batches.samplers import LengthGroupedSampler, LengthSortedSampler
from .batches.token_batch_sampler import SortedTokenBatchSampler, TokenBatchSampler
from .config import SPLITS, DataConfig
from .preparation import DATA_SET_COLUMN, PreparedData, prepare_datasets
from .preparation_report import SplitReport
from .readers.rows import Rows
from .readers.sources import load_hub_split, read_rows
from .streaming import StreamBatches, TrainingStream

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
