"""Inspection of the data of a config, before any training."""

from dataclasses import replace

from ..data.config import data_configs
from ..data.inspection.data_inspection import DataInspection, inspect_datasets
from .config import RunConfig


def inspect_data(config: RunConfig, num_rows: int = 3) -> DataInspection:
    """Read the data of a config as a training would, and count what is in it.

    No weights are loaded. Training rows that are streamed are never all in memory; finding duplicates takes 8 bytes a
    row and 8 a task.

    Args:
        config: The config. Labels that train never has and tags that break the rule of their scheme are counted,
            whatever ``unseen_labels`` and ``strict_tags`` say.
        num_rows: Number of training rows of each dataset to show.

    Returns:
        The counts.

    Raises:
        ValueError: If something else in the data is wrong, as in a training.
    """
    configs = data_configs([replace(data, unseen_labels="ignore") for data in config.data_sets], {})
    tasks = [replace(task, strict_tags=False) for task in config.tasks]
    return inspect_datasets(config.encoder, tasks, configs, num_rows)
