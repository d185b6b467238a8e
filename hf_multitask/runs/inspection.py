"""Inspection of the data of a config, before any training."""

from dataclasses import replace

from ..data.config import data_configs
from ..data.inspection.data_inspection import DataInspection, inspect_datasets
from .config import RunConfig


def inspect_data(config: RunConfig, num_rows: int = 3) -> DataInspection:
    """Prepare the data of a config as a training does, and count what is in it.

    No weights are loaded. Streamed training rows are never all in memory; finding duplicates takes 8 bytes per row and
    8 bytes per row and task.

    Args:
        config: The config. Labels that do not occur in train and tags that break the rule of their scheme are counted,
            whatever the values of ``unseen_labels`` and ``strict_tags``.
        num_rows: Number of training rows of each dataset to show.

    Returns:
        The counts.

    Raises:
        ValueError: If the data is invalid in any other way, as in a training run.
    """
    configs = data_configs([replace(data, unseen_labels="ignore") for data in config.data_configs], {})
    tasks = [replace(task, strict_tags=False) for task in config.tasks]
    return inspect_datasets(config.encoder, config.load_tokenizer(), tasks, configs, num_rows)
