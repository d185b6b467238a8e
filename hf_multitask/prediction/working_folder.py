"""The folder in which an unfinished run keeps its parts: what is whole stays, whatever ends the run."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ..runtime.atomic_files import write_json, write_whole

MANIFEST_NAME = "manifest.json"
_SUFFIX = ".parts"
_LOCK_NAME = "lock"
_SECONDS_BETWEEN_LOOKS = 0.2
# The workers of a process that was killed hold its lock until they notice.
_SECONDS_TO_WAIT = 10


class WorkingFolder:
    """The parts of an output that is not whole yet, beside it.

    A part is a file with predictions and one that says which rows were skipped; the one with the predictions gets its
    name last, so that where it is both are whole.

    Args:
        output: The file that the parts are for.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + _SUFFIX)
        self.lock = FileLock(self.path / _LOCK_NAME)

    def open(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder, or take over what an earlier run left in it.

        Args:
            settings: What the predictions depend on, as JSON holds it.
            overwrite: Begin anew where the parts were made with other settings.

        Raises:
            FileExistsError: If another process is writing to it, or without ``overwrite``, if the parts were made with
                other settings. The message names them.
        """
        self.path.mkdir(exist_ok=True)
        try:
            self.lock.acquire(timeout=_SECONDS_TO_WAIT)
        except Timeout as error:
            raise FileExistsError(f"{self.path}: another process is predicting into it.") from error
        manifest = self.manifest() if self.whole_parts() else None
        earlier = {} if manifest is None else manifest["settings"]
        changed = [name for name, value in settings.items() if earlier.get(name) != value]
        if manifest is not None and changed and not overwrite:
            self.close()
            raise FileExistsError(f"{self.path}: {_describe(changed, earlier, settings)}")
        if changed:
            self._clear()

    def manifest(self) -> dict[str, Any] | None:
        """Return what the parts were made with, None where it is not written yet."""
        try:
            return json.loads((self.path / MANIFEST_NAME).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write what the parts are made with; before the first of them."""
        write_json(self.path / MANIFEST_NAME, manifest)

    def whole_parts(self) -> set[int]:
        """Return the numbers of the parts that are written."""
        return {int(path.stem) for path in self.path.glob("[0-9]*.part")}

    def write_part(self, index: int, write: Callable[[BinaryIO], Any], report: Mapping[str, Any]) -> None:
        """Write a part.

        Args:
            index: Its number.
            write: What writes the predictions.
            report: What else is to be known of it.
        """
        write_json(self._report_path(index), report)
        write_whole(self.part_path(index), write)

    def part_path(self, index: int) -> Path:
        """Return the file of a part's predictions."""
        return self.path / f"{index:08}.part"

    def report(self, index: int) -> dict[str, Any]:
        """Return what else is known of a part."""
        return json.loads(self._report_path(index).read_text(encoding="utf-8"))

    def wait_for(self, count: int) -> None:
        """Wait until all parts are written, by whichever process.

        Args:
            count: Their number.
        """
        # Not a barrier of the process group: that gives up where the slowest process is minutes behind.
        while len(self.whole_parts()) < count:
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def finish(self, files: Sequence[tuple[Path, Callable[[BinaryIO], Any] | None]]) -> None:
        """Write the files that the parts make, each whole or not at all, and remove the folder.

        Args:
            files: Each with what writes it; None for one that is to be absent. The last is the output.
        """
        for path, write in files:
            if write is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, write, self.path)
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Let other processes write to the folder; its parts stay, without any it is removed."""
        if self.lock.is_locked and not self.whole_parts():
            shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()

    def _report_path(self, index: int) -> Path:
        return self.path / f"{index:08}.json"

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.name != _LOCK_NAME:
                path.unlink()


def _describe(changed: Sequence[str], earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    differences = "; ".join(f"{name}: {_short(earlier.get(name))}, now {_short(now[name])}" for name in changed)
    return (
        f"an unfinished run has left parts that are not of this one ({differences}). Run it as before to go on with "
        "them, or use --overwrite to begin anew."
    )


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
