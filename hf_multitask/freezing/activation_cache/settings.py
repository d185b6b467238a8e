"""Settings of an activation cache."""

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class CacheSettings:
    """Settings of an activation cache.

    Args:
        mode: ``"auto"`` or ``"always"``; see `plan_store`.
        dtype: Type of the cached states.
        folder: Folder of all stores.
        max_bytes: Size limit of all stores together; half of the free disk if None.
    """

    mode: str
    dtype: torch.dtype
    folder: Path
    max_bytes: int | None = None
