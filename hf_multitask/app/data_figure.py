"""Figures of the data of a config, each drawn once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from ..data import SPLITS
from ..reports.data_figures import save_data_figure
from ..runs.config import RunConfig
from ..runs.inspection import inspect_data
from .workspace import Workspace

# Matplotlib's settings are shared by all threads.
DRAWING = Lock()


def data_figure(workspace: Workspace, config: RunConfig) -> Path:
    """Draw label counts and text lengths of a config's data, unless that figure exists already.

    Args:
        workspace: Workspace that contains the figures.
        config: The config.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the data is invalid.
        ImportError: If matplotlib is not installed.
    """
    key = hashlib.sha256(repr([config.encoder, config.tasks, config.data, *_file_times(config)]).encode())
    path = workspace.received_dir / f"data-{key.hexdigest()[:16]}.png"
    with DRAWING:
        if not path.exists():
            save_data_figure(inspect_data(config, num_rows=0), path)
    return path


def _file_times(config: RunConfig) -> Iterator[float]:
    for data in config.data_configs:
        for split in SPLITS:
            source = getattr(data, split)
            if isinstance(source, str) and Path(source).exists():
                yield Path(source).stat().st_mtime
