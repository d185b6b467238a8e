"""Pictures of the data of a config, each drawn once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from ..data import SPLITS
from ..reports.data_figures import save_data_figure
from ..runs.config import RunConfig
from ..runs.inspection import inspect_data
from .workspace import Workspace

_drawing = Lock()


def data_picture(workspace: Workspace, config: RunConfig) -> Path:
    """Draw label counts and lengths of a config's data, or find the picture drawn before.

    Args:
        workspace: Where pictures are kept.
        config: The config.

    Returns:
        A PNG file.

    Raises:
        ValueError: If something in the data is wrong.
        ImportError: If matplotlib is not installed.
    """
    key = hashlib.sha256(repr([config.encoder, config.tasks, config.data, *_file_times(config)]).encode())
    path = workspace.received_dir / f"data-{key.hexdigest()[:16]}.png"
    # matplotlib's settings belong to the process.
    with _drawing:
        if not path.exists():
            save_data_figure(inspect_data(config, num_rows=0), path)
    return path


def _file_times(config: RunConfig) -> Iterator[float]:
    for data in config.data_configs:
        for split in SPLITS:
            source = getattr(data, split)
            if isinstance(source, str) and Path(source).exists():
                yield Path(source).stat().st_mtime
