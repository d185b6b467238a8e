"""Folder of activation stores: their sizes, and which are evicted for new ones."""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

# Share of the disk space free of stores that all stores may take if no limit is given.
_SHARE_OF_DISK = 0.5


class StoreFolder:
    """A folder with a subfolder per store, named by its key.

    Args:
        path: The folder.
        max_bytes: Size limit of all stores together; half of the free disk if None.
    """

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self.path = path
        self.max_bytes = max_bytes

    def available_bytes(self, in_use: Collection[str]) -> int:
        """Return the number of bytes that can be written if all stores are evicted but the ones in use.

        Args:
            in_use: Keys of stores that must stay.
        """
        sizes = self._sizes()
        kept = sum(size for key, size in sizes.items() if key in in_use)
        return max(self._limit(sizes) - kept, 0)

    def evict(self, num_bytes: int, in_use: Collection[str]) -> None:
        """Remove the least recently used stores until there is space for new ones.

        Args:
            num_bytes: Size of the new stores.
            in_use: Keys of stores that must stay.
        """
        sizes = self._sizes()
        limit = self._limit(sizes)
        by_age = sorted((key for key in sizes if key not in in_use), key=lambda key: (self.path / key).stat().st_mtime)
        for key in by_age:
            if sum(sizes.values()) + num_bytes <= limit:
                return
            shutil.rmtree(self.path / key, ignore_errors=True)
            del sizes[key]

    def touch(self, key: str) -> None:
        """Mark a store as just used."""
        os.utime(self.path / key)

    def _limit(self, sizes: Mapping[str, int]) -> int:
        """Return the size limit of all stores, which is never above what the disk has for them."""
        available = shutil.disk_usage(self.path).free + sum(sizes.values())
        return min(int(available * _SHARE_OF_DISK) if self.max_bytes is None else self.max_bytes, available)

    def _sizes(self) -> dict[str, int]:
        """Return the size of each store by key."""
        self.path.mkdir(parents=True, exist_ok=True)
        folders = [path for path in self.path.iterdir() if path.is_dir()]
        return {
            folder.name: sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) for folder in folders
        }
