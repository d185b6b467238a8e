"""Working folder of an unfinished prediction. Completed parts survive any end of the run."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypedDict

from filelock import FileLock

from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import read_json, write_json, write_whole
from ..runtime.folder_lock import acquire

MANIFEST_NAME = "manifest.json"
_SUFFIX = ".parts"
_LOCK_NAME = "lock"
_POLL_SECONDS = 0.2


class PartReport(TypedDict):
    """Contents of a part: the number of predicted rows, and position and reason of each skipped row."""

    predicted: int
    skipped: list[JsonObject]


class WorkingFolder:
    """Folder with the parts of an unfinished output, next to it.

    A part consists of a file with predictions and a report. The file with the predictions gets its name last, so if it
    exists, both are complete.

    Args:
        output: The output file.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + _SUFFIX)
        self.lock = FileLock(self.path / _LOCK_NAME)

    def open(self, settings: JsonObject, overwrite: bool) -> None:
        """Create the folder, or resume with the parts of an earlier run.

        Args:
            settings: Everything the predictions depend on.
            overwrite: Whether to start over if the parts were made with other settings.

        Raises:
            FileExistsError: If another process is writing to the folder; or if the parts were made with other settings
                and ``overwrite`` is False. The message lists the differences.
        """
        self.path.mkdir(exist_ok=True)
        acquire(self.lock, f"{self.path}: another process is predicting into it.")
        manifest = self.manifest() if self.whole_parts() else None
        earlier = {} if manifest is None else manifest["settings"]
        changed = [name for name, value in settings.items() if earlier.get(name) != value]
        if manifest is not None and changed and not overwrite:
            self.close()
            raise FileExistsError(f"{self.path}: {_describe(changed, earlier, settings)}")
        if changed:
            self._clear()

    def manifest(self) -> JsonObject | None:
        """Return the settings and the batch limit of the parts, or None if they are not written yet."""
        return read_json(self.path / MANIFEST_NAME)

    def write_manifest(self, manifest: JsonObject) -> None:
        """Write the settings and the batch limit, before the first part."""
        write_json(self.path / MANIFEST_NAME, manifest)

    def whole_parts(self) -> set[int]:
        """Return the numbers of the completed parts."""
        return {int(path.stem) for path in self.path.glob("[0-9]*.part")}

    def write_part(self, index: int, write: Callable[[BinaryIO], object], report: PartReport) -> None:
        """Write a part.

        Args:
            index: Number of the part.
            write: Writes the predictions to a file.
            report: Report of the part.
        """
        write_json(self._report_path(index), report)
        write_whole(self.part_path(index), write)

    def part_path(self, index: int) -> Path:
        """Return the path of a part's predictions."""
        return self.path / f"{index:08}.part"

    def report(self, index: int) -> PartReport:
        """Return the report of a part."""
        return json.loads(self._report_path(index).read_text(encoding="utf-8"))

    def wait_for(self, count: int) -> None:
        """Wait until all processes have written their parts.

        Args:
            count: Number of parts.
        """
        # A barrier of the process group would time out if the slowest process is minutes behind.
        while len(self.whole_parts()) < count:
            time.sleep(_POLL_SECONDS)

    def finish(self, files: Sequence[tuple[Path, Callable[[BinaryIO], object] | None]]) -> None:
        """Write the files made from the parts, each completely or not at all, and remove the folder.

        Args:
            files: Each file with the function that writes it, or with None to delete the file. The output comes last.
        """
        for path, write in files:
            if write is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, write, self.path)
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Release the folder for other processes. It is removed if it contains no part."""
        if self.lock.is_locked and not self.whole_parts():
            shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()

    def _report_path(self, index: int) -> Path:
        return self.path / f"{index:08}.json"

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.name != _LOCK_NAME:
                path.unlink()


def _describe(changed: Sequence[str], earlier: JsonObject, now: JsonObject) -> str:
    differences = "; ".join(f"{name}: {_short(earlier.get(name))}, now {_short(now[name])}" for name in changed)
    return (
        f"an unfinished run has left parts made with other settings ({differences}). Run it as before to resume it, "
        "or use --overwrite to start over."
    )


def _short(value: object) -> str:
    return json.dumps(value)[:80]
