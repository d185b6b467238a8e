"""Snapshots: tensors that a stage needs again later, on disk so that a resumed run has them too."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..models.weights_digest import add_tensor
from ..runtime.atomic_files import whole_file

# The Trainer pushes nothing to the hub whose name starts with an underscore.
SNAPSHOTS_DIR = "_freezing"
_CHECKSUM = "xxh3_128"


def checkpoints(output_dir: Path) -> dict[int, Path]:
    """Return the checkpoints in a run's folder by step, including incomplete ones."""
    named = {
        path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"): path
        for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    }
    return {int(step): path for step, path in named.items() if step.isdigit()}


class Snapshots:
    """Files ``<output_dir>/_freezing/<kind>-<step>.safetensors``.

    Args:
        output_dir: Folder of the run.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.folder = self.output_dir / SNAPSHOTS_DIR

    def save(self, kind: str, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors. A file that was not written completely never gets its final name.

        Args:
            kind: Kind of the snapshot, one word.
            step: Optimizer steps so far.
            tensors: Tensors by name.
        """
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        # Written at each evaluation that is the best so far. Not worth waiting for the disk: the Trainer does not wait
        # for the checkpoints that need it either.
        with whole_file(self._path(kind, step), fsync=False) as path:
            save_file(copies, path, {_CHECKSUM: _checksum(copies)})

    def load(self, kind: str, step: int) -> dict[str, torch.Tensor]:
        """Read tensors.

        Args:
            kind: Kind of the snapshot.
            step: Step at which it was written.

        Returns:
            Tensors by name, on the CPU.

        Raises:
            FileNotFoundError: If there is no such snapshot.
            ValueError: If it is damaged.
        """
        path = self._path(kind, step)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: the stage needs the snapshot of step {step}. Resume in the folder of the run."
            )
        with safe_open(path, "pt") as file:
            # Another program may have written the metadata again, without the checksum.
            expected = (file.metadata() or {}).get(_CHECKSUM)
        tensors = load_file(path)
        if expected not in (None, _checksum(tensors)):
            raise ValueError(
                f"{path}: the file is damaged: its weights are not those that were written (the checksum differs). "
                "They cannot be computed again: train again without resuming."
            )
        return tensors

    def clear(self) -> None:
        """Remove the snapshots of an earlier run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def prune(self, step: int | None = None) -> None:
        """Remove the snapshots that neither the run nor a checkpoint in its folder can need again.

        Each checkpoint needs the last snapshot of each kind that is older than itself. A snapshot of its own step is
        written again on resume, except for the best weights, which the evaluation before the checkpoint has written.

        Args:
            step: Optimizer steps so far; None if the run is over.
        """
        resumable = [*checkpoints(self.output_dir), *([] if step is None else [step])]
        by_kind: dict[str, list[int]] = {}
        for path in self.folder.glob("*.safetensors"):
            if match := re.fullmatch(r"(\w+)-(\d+)", path.stem):
                by_kind.setdefault(match[1], []).append(int(match[2]))
        for kind, steps in by_kind.items():
            needed = {max((saved for saved in steps if saved <= at), default=None) for at in resumable}
            needed |= {max((saved for saved in steps if saved < at), default=None) for at in resumable}
            for saved in steps:
                if saved not in needed:
                    self._path(kind, saved).unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step}.safetensors"


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    checksum = xxhash.xxh3_128()
    for name in sorted(tensors):
        add_tensor(checksum, name, tensors[name])
    return checksum.hexdigest()
