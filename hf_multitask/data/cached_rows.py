"""Rows that are computed once and kept on disk: checked before they are read, and computed again if damaged."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import datasets

from ..runtime.checksums import find_change, read_checksums, write_checksums
from ..runtime.processes import join_processes

logger = logging.getLogger(__name__)

CACHE_FOLDER = "hf_multitask"
_CHECKSUMS_SUFFIX = ".checksums.json"


def load_or_compute(key: str, compute: Callable[[str], datasets.Dataset]) -> datasets.Dataset:
    """Return rows from the folder of the ``datasets`` cache, or compute them and keep them there.

    One process per machine checks and writes the files, and the others read its result. Everything in a file can be
    computed again, so that a damaged one is removed with a warning and stops no training.

    Args:
        key: Digest of everything that the rows depend on.
        compute: Return the rows, which `datasets.Dataset.map` writes to a given file if they are not in it.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE, CACHE_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / f"{key}.arrow")
    state = join_processes()
    with state.local_main_process_first():
        if not state.is_local_main_process:
            return compute(path)
        checksums = folder / f"{key}{_CHECKSUMS_SUFFIX}"
        known = _remove_damaged(folder, key, checksums)
        rows = compute(path)
        if (files := _files(folder, key)) and {file.name for file in files} != known:
            # Another run that computes the same rows at the same time may remove the file; it writes the checksums.
            with suppress(FileNotFoundError):
                write_checksums(checksums, files)
        return rows


def _files(folder: Path, key: str) -> list[Path]:
    """Return the files of the rows; there are several if several processes have computed them."""
    return sorted(folder.glob(f"{key}*.arrow"))


def _remove_damaged(folder: Path, key: str, checksums: Path) -> set[str]:
    """Remove the files of the rows if one is damaged, and return the names of those that are whole."""
    files, expected = _files(folder, key), read_checksums(checksums)
    if not files:
        return set()
    change = None if expected is None else find_change(folder, expected)
    names = {file.name for file in files}
    if expected is not None and change is None and names <= expected.keys():
        return names
    if change is not None:
        logger.warning(
            "%s: the cached rows are damaged: %s. Computing them again; if this happens again, check the disk.",
            folder / change[0],
            change[1],
        )
    # Without a checksum they are of a process that was killed, or of an earlier version.
    for file in [*files, checksums]:
        file.unlink(missing_ok=True)
    return set()
