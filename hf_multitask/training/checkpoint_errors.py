"""Clear errors for checkpoints that are damaged, and for models and checkpoints that cannot be written."""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import get_last_checkpoint

from ..freezing.snapshots import SNAPSHOTS_DIR, checkpoints
from ..models.hub_errors import one_line
from ..runtime.byte_sizes import format_bytes
from ..runtime.checksums import find_change, read_checksums, write_checksums

STATE_NAME = "trainer_state.json"
# Files without which a checkpoint cannot be resumed from; the weights besides.
REQUIRED = ("optimizer.pt", "scheduler.pt", STATE_NAME)
# In a checkpoint, the checksums of the files that a resumed training reads.
CHECKSUMS_NAME = "checksums.json"
_CHECKED_SUFFIXES = (".safetensors", ".pt", ".pth", ".json")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Parts of messages of safetensors and torch when they cannot write.
_WRITE_MESSAGES = ("while serializing", "inline_container", "PytorchStreamWriter")


def add_checksums(folder: Path, step: int) -> None:
    """Write the checksums of a checkpoint's files, once all of them are written.

    Args:
        folder: Folder of the checkpoints.
        step: Step of the checkpoint.
    """
    checkpoint = checkpoints(folder)[step]
    files = [path for path in checkpoint.iterdir() if path.suffix in _CHECKED_SUFFIXES and path.name != CHECKSUMS_NAME]
    write_checksums(checkpoint / CHECKSUMS_NAME, sorted(files))


def find_checked(output_dir: str, checkpoint: str | bool | None) -> str | bool | None:
    """Find the checkpoint that a training resumes from, and check that its files are as they were written.

    Most libraries do not notice a changed bit in a file of weights, and the training would go on with other weights.

    Args:
        output_dir: Folder of the run.
        checkpoint: The trainer's ``resume_from_checkpoint``; True for the last one in ``output_dir``.

    Returns:
        The checkpoint. A checkpoint of another trainer has no checksums.

    Raises:
        ValueError: If a file has changed. The message names the last checkpoint before it that is whole.
    """
    if checkpoint is True:
        checkpoint = get_last_checkpoint(output_dir) or True
    if checkpoint and checkpoint is not True and (change := _change(Path(checkpoint))):
        raise ValueError(_refusal(Path(checkpoint), change))
    return checkpoint


class WriteError(OSError):
    """A file could not be written, as on a full disk. Its message says what to do."""


@contextmanager
def explain_checkpoint_errors(output_dir: str | Path, checkpoint: str | bool | None = None) -> Iterator[None]:
    """Explain an error of a training that reads or writes checkpoints in this context.

    Args:
        output_dir: Folder of the run.
        checkpoint: Checkpoint that the training resumes from; True for the last one in ``output_dir``.

    Raises:
        ValueError: If a file of the checkpoint is damaged. The message names the last checkpoint before it that is
            whole.
        WriteError: If a file could not be written.
    """
    try:
        yield
    except Exception as error:
        # First: a damaged file of weights and a full disk are the same kind of error to safetensors.
        if checkpoint and (message := _damage_message(Path(output_dir), checkpoint)):
            raise ValueError(message) from error
        if is_write_error(error):
            raise WriteError(_write_message(Path(output_dir), error)) from error
        raise


def is_write_error(error: BaseException) -> bool:
    """Return whether an error says that a file could not be written, in the words of any of the libraries."""
    if isinstance(error, OSError):
        return isinstance(error, WriteError) or error.errno in _DISK_ERRORS
    kinds = (SafetensorError, RuntimeError)
    return (
        isinstance(error, kinds) and any(part in str(error) for part in _WRITE_MESSAGES) and "Reader" not in str(error)
    )


def damaged_file(checkpoint: Path) -> tuple[str, str] | None:
    """Find a file of a checkpoint that cannot be read.

    Args:
        checkpoint: Folder of the checkpoint.

    Returns:
        The name of the first damaged or missing file, and what is wrong with it; None if the checkpoint is whole.
    """
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights:
        return "model.safetensors", "the file is missing"
    for name in REQUIRED:
        if not (checkpoint / name).is_file():
            return name, "the file is missing"
    if change := _change(checkpoint):
        return change
    others = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth"), *checkpoint.glob("*.json")]
    for path in [*weights, *sorted(others)]:
        try:
            _read(path)
        except Exception as error:  # whatever the libraries run into
            return path.name, one_line(error)
    return None


def last_whole_checkpoint(output_dir: Path, before: int | None = None) -> Path | None:
    """Return the last checkpoint whose files can be read.

    Args:
        output_dir: Folder of the run.
        before: Step that it must be before; any if None.

    Returns:
        The folder, or None if there is none.
    """
    found = checkpoints(output_dir)
    steps = sorted((step for step in found if before is None or step < before), reverse=True)
    return next((found[step] for step in steps if damaged_file(found[step]) is None), None)


def _read(path: Path) -> None:
    """Read a file of a checkpoint, and raise if it does not have the form that it should have."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt"):
            return
    if path.name == STATE_NAME:
        TrainerState.load_from_json(str(path))
        return
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
        return
    with safe_globals():
        content = torch.load(path, map_location="cpu", weights_only=True)
    expected = {"optimizer.pt": {"state", "param_groups"}}.get(path.name, set())
    if path.name.startswith("rng_state"):
        expected = {"python", "numpy", "cpu"}
    if not isinstance(content, dict) or not expected <= content.keys():
        raise ValueError(f"expected a mapping with {', '.join(sorted(expected)) or 'values'}")


def _damage_message(output_dir: Path, checkpoint: str | bool) -> str | None:
    """Return what is wrong with a checkpoint and which one to use instead; None if it is whole."""
    found = get_last_checkpoint(str(output_dir)) if checkpoint is True else str(checkpoint)
    if found is None or not Path(found).is_dir():
        return None
    damage = damaged_file(Path(found))
    if damage is None:
        return _snapshot_message(Path(found).parent / SNAPSHOTS_DIR)
    return _refusal(Path(found), damage)


def _change(checkpoint: Path) -> tuple[str, str] | None:
    """Return the name of a file that is not as it was written, and what is wrong with it; None if there is none."""
    expected = read_checksums(checkpoint / CHECKSUMS_NAME)
    return None if expected is None else find_change(checkpoint, expected)


def _refusal(checkpoint: Path, damage: tuple[str, str]) -> str:
    step = checkpoint.name.rpartition("-")[2]
    whole = last_whole_checkpoint(checkpoint.parent, int(step) if step.isdigit() else None)
    remedy = (
        "No checkpoint before it is whole: train again without resuming."
        if whole is None
        else f"{whole.name} before it is whole: remove {checkpoint} and resume again to continue from there."
    )
    return f"{checkpoint / damage[0]}: the checkpoint is damaged: {damage[1]}. {remedy}"


def _snapshot_message(folder: Path) -> str | None:
    """Return which of the files that a freeze schedule keeps for a resumed run is damaged; None if none is."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            _read(path)
        except SafetensorError as error:
            return f"{path}: the file is damaged: {one_line(error)}. Train again without resuming."
    return None


def _write_message(output_dir: Path, error: BaseException) -> str:
    free = format_bytes(shutil.disk_usage(output_dir).free) if output_dir.is_dir() else "unknown"
    whole = last_whole_checkpoint(output_dir)
    rest = (
        "no checkpoint is whole yet"
        if whole is None
        else f"{whole.name} is whole, and the training can resume from it"
    )
    # Of a copied file, the second name is that of the copy.
    name = getattr(error, "filename2", None) or getattr(error, "filename", None) or output_dir
    return f"{name}: could not be written. {one_line(error)}. Free on this disk: {free}. Make space; {rest}."
