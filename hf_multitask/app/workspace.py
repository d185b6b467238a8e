"""Folder of the app. A browser names what it wants from it, and never gives a path."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from transformers.utils import CONFIG_NAME

from ..models import MultiTaskConfig
from ..runs.output_dir import find_last_checkpoint
from ..runtime.atomic_files import read_json

APP_DIR = "app"
# What the process of a run reports, in the folder of the run, and the same for studies.
JOB_DIR = "_app"
STUDY_JOBS_DIR = "_studies"
DATA_CONFIG = "config.yaml"
STUDY_NAME, RACE_NAME = "study.json", "race.json"
# Depth below the root to search: out/app/run-1, out/studies/snips/run-1.
MAX_DEPTH = 4
MAX_NAME_LENGTH = 60


class Workspace:
    """Models, studies, data and runs in one folder.

    Args:
        root: The folder. It is created if it does not exist.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        self.app_dir = self.root / APP_DIR
        self.data_dir = self.app_dir / "data"
        # Uploaded files before they are checked, and figures for the browser.
        self.received_dir = self.app_dir / "received"
        for folder in (self.data_dir, self.received_dir):
            folder.mkdir(parents=True, exist_ok=True)

    def name_of(self, folder: Path) -> str:
        """Return the name of a folder on the page."""
        return folder.relative_to(self.root).as_posix()

    def models(self) -> dict[str, Path]:
        """Return the folders of trained models by name, newest first.

        A run that has no model because it is training or was killed is represented by its last complete checkpoint.
        """
        folders = []
        for folder, names in self._walk():
            path: Path | None = folder
            if CONFIG_NAME not in names:
                path = find_last_checkpoint(folder)
            if path is not None and _is_model(path):
                folders.append(path)
        return _newest_first({self.name_of(path): path for path in folders}, CONFIG_NAME)

    def studies(self) -> dict[str, Path]:
        """Return the folders of studies by name, newest first."""
        folders = {self.name_of(folder): folder for folder, names in self._walk() if STUDY_NAME in names}
        return _newest_first(folders, STUDY_NAME)

    def races(self) -> dict[str, Path]:
        """Return the folders of races by name, newest first. One that a study has completed is a study."""
        files = {self.name_of(folder): names for folder, names in self._walk() if RACE_NAME in names}
        folders = {name: self.root / name for name, names in files.items() if STUDY_NAME not in names}
        return _newest_first(folders, RACE_NAME)

    def datasets(self) -> dict[str, Path]:
        """Return the configs of uploaded data by name, newest first."""
        folders = {path.parent.name: path.parent for path in self.data_dir.glob(f"*/{DATA_CONFIG}")}
        return {name: path / DATA_CONFIG for name, path in _newest_first(folders, DATA_CONFIG).items()}

    def new_folder(self, parent: Path, name: str) -> Path:
        """Create a folder that did not exist before.

        Args:
            parent: Parent folder.
            name: Name of the folder, to which a number is appended.
        """
        number = 1
        while True:
            folder = parent / f"{name}-{number}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return folder

    def _walk(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield folders and the names of the files in them, without following links."""
        for name, folders, files in os.walk(self.root):
            folder = Path(name)
            depth = len(folder.relative_to(self.root).parts)
            hidden = {self.data_dir, self.received_dir}
            folders[:] = sorted(
                inner
                for inner in folders
                if depth < MAX_DEPTH
                and not inner.startswith((".", "_", "checkpoint-"))
                and folder / inner not in hidden
            )
            yield folder, files


def look_up(kind: str, name: str | None, folders: Mapping[str, Path]) -> Path:
    """Return the folder that belongs to a name on the page.

    Args:
        kind: Kind of the folder, for the message.
        name: The name.
        folders: The folders that exist now, by name.

    Raises:
        ValueError: If no name is given, or its folder does not exist any more.
    """
    if not name:
        raise ValueError(f"{kind}: none is chosen.")
    if name not in folders:
        raise ValueError(f"{kind} {name!r} does not exist any more: its folder was moved or deleted. Choose another.")
    return folders[name]


def safe_name(given: str, default: str) -> str:
    """Return a safe folder name for an untrusted name.

    Args:
        given: Any text, such as ``../../x.jsonl``.
        default: Name for a text without letters and digits.

    Returns:
        The last part of the path without its extensions, with letters, digits, ``_`` and ``-`` only.
    """
    last = re.split(r"[\\/]", given)[-1].split(".")[0]
    return re.sub(r"[^\w-]+", "-", last, flags=re.ASCII).strip("-_")[:MAX_NAME_LENGTH] or default


def _is_model(folder: Path) -> bool:
    config = read_json(folder / CONFIG_NAME)
    return isinstance(config, dict) and config.get("model_type") == MultiTaskConfig.model_type


def _newest_first(folders: Mapping[str, Path], file: str) -> dict[str, Path]:
    def age(name: str) -> float:
        try:
            return -(folders[name] / file).stat().st_mtime
        except OSError:
            return 0.0  # Deleted in the meantime: choosing it raises an error.

    return {name: folders[name] for name in sorted(folders, key=age)}
