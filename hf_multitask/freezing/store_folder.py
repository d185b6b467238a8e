"""The folder of stores: where each is, how much they take, and which make room for others."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

# Share of the disk that stores may take where no limit is given, of what is free without them.
_SHARE_OF_DISK = 0.5


class StoreFolder:
    """A folder with a subfolder for each store, by its key.

    Args:
        path: The folder.
        max_bytes: What all stores together may take; half of the free disk where None.
    """

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self.path = path
        self.max_bytes = max_bytes

    def room(self, in_use: Collection[str]) -> int:
        """Return the bytes that can be written, if all stores but those in use make room.

        Args:
            in_use: Keys of stores that must stay.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        free, sizes = shutil.disk_usage(self.path).free, self._sizes()
        limit = (free + sum(sizes.values())) * _SHARE_OF_DISK if self.max_bytes is None else self.max_bytes
        kept = sum(size for key, size in sizes.items() if key in in_use)
        return max(min(int(limit) - kept, free + sum(sizes.values()) - kept), 0)

    def make_room(self, num_bytes: int, in_use: Collection[str]) -> None:
        """Remove the stores that were longest not used, as many as it takes.

        Args:
            num_bytes: Bytes that are to be written.
            in_use: Keys of stores that must stay.
        """
        free, sizes = shutil.disk_usage(self.path).free, self._sizes()
        limit = (free + sum(sizes.values())) * _SHARE_OF_DISK if self.max_bytes is None else self.max_bytes
        by_age = sorted((key for key in sizes if key not in in_use), key=lambda key: (self.path / key).stat().st_mtime)
        for key in by_age:
            if sum(sizes.values()) + num_bytes <= limit and num_bytes <= free:
                return
            shutil.rmtree(self.path / key, ignore_errors=True)
            free += sizes.pop(key)

    def touch(self, key: str) -> None:
        """Note that a store is used now."""
        os.utime(self.path / key)

    def _sizes(self) -> dict[str, int]:
        """Return the bytes on the disk by key."""
        folders = [path for path in self.path.iterdir() if path.is_dir()]
        return {
            folder.name: sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) for folder in folders
        }
