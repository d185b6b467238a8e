"""Folders of runs: renamed, deleted, and packed for download."""

import json
import shutil
import zipfile
from pathlib import Path

from ..freezing.snapshots import checkpoints
from ..reports.mistakes_file import MISTAKES_NAME
from ..reports.training_report import REPORT_NAME
from ..runtime.atomic_files import whole_file, write_json
from ..runtime.checksums import update_checksum
from ..training.checkpoint_errors import CHECKSUMS_NAME
from .workspace import safe_name

STATE_NAME = "trainer_state.json"
BEST_CHECKPOINT = "best_model_checkpoint"
# Texts of the training data, and what only a resumed training needs.
NOT_PACKED = (REPORT_NAME, MISTAKES_NAME, "training_args.bin", "optimizer.pt", "scheduler.pt", STATE_NAME)
NOT_PACKED_PREFIXES = (".", "rng_state")
# Weights do not get smaller.
STORED_SUFFIXES = (".safetensors",)


def rename_run(folder: Path, new_name: str) -> Path:
    """Rename the folder of a run.

    Args:
        folder: The folder.
        new_name: The name that the user has typed.

    Returns:
        The new folder.

    Raises:
        ValueError: If the new name is empty or taken.
    """
    name = safe_name(new_name.replace("/", "-").replace(".", "-"), "")
    if not name:
        raise ValueError(f"new name: expected letters or digits, found {new_name!r}.")
    target = folder.with_name(name)
    if target == folder:
        return folder
    if target.exists():
        raise ValueError(f"new name: {name!r} is taken. Choose another.")
    folder.rename(target)
    for checkpoint in checkpoints(target).values():
        _move_best_checkpoint(checkpoint / STATE_NAME, target)
    return target


def delete_run(folder: Path) -> None:
    """Delete the folder of a run.

    Raises:
        OSError: If a file cannot be deleted.
    """
    # Out of sight first: a page must not find a run of which half is deleted.
    hidden = folder.with_name(f".{folder.name}.deleted")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def pack_model(folder: Path, name: str, target: Path) -> Path:
    """Write a zip file of a model folder. Unpacked, it loads like the folder itself.

    Checkpoints, reports with texts of the data, and what only a resumed training needs are left out.

    Args:
        folder: Folder of the model.
        name: Name of the folder in the zip file.
        target: The zip file.

    Returns:
        The zip file.
    """
    with whole_file(target) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            if not path.is_file() or path.name in NOT_PACKED or path.name.startswith(NOT_PACKED_PREFIXES):
                continue
            how = zipfile.ZIP_STORED if path.suffix in STORED_SUFFIXES else zipfile.ZIP_DEFLATED
            archive.write(path, f"{name}/{path.name}", compress_type=how)
    return target


def _move_best_checkpoint(path: Path, folder: Path) -> None:
    """Let the state of a checkpoint name the best checkpoint in the run's new folder."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # Not a complete checkpoint, which is not resumed from.
    if values.get(BEST_CHECKPOINT):
        values[BEST_CHECKPOINT] = str(folder / Path(values[BEST_CHECKPOINT]).name)
        write_json(path, values)
        update_checksum(path.with_name(CHECKSUMS_NAME), path)
