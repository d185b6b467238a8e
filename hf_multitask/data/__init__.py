"""Reading, checking, alignment, mixing and batching of data."""

from ..models.collator import ROW_NUMBER_COLUMN, MultiTaskDataCollator
from .batches.mixing import MixedOrder, Sampling
from .batches.samplers import EpochLengthGroupedSampler, LengthSortedSampler
from .batches.token_batch_sampler import SortedTokenBatchSampler, TokenBatchSampler
from .config import SPLITS, DataConfig
from .preparation import DATASET_COLUMN, PreparedData, prepare_datasets
from .preparation_report import PreparationReport
from .readers.rows import Rows
from .readers.sources import load_hub_split
from .streaming import StreamBatches, TrainingStream

__all__ = [
    "DATASET_COLUMN",
    "ROW_NUMBER_COLUMN",
    "SPLITS",
    "DataConfig",
    "EpochLengthGroupedSampler",
    "LengthSortedSampler",
    "MixedOrder",
    "MultiTaskDataCollator",
    "PreparationReport",
    "PreparedData",
    "Rows",
    "Sampling",
    "SortedTokenBatchSampler",
    "StreamBatches",
    "TokenBatchSampler",
    "TrainingStream",
    "load_hub_split",
    "prepare_datasets",
]
