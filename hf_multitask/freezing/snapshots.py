"""Tensors that a stage needs again later, on disk so that a resumed run has them too."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..runtime.atomic_files import whole_file

# The Trainer pushes nothing to the hub whose name begins so.
SNAPSHOTS_DIR = "_freezing"


def checkpoints(output_dir: Path) -> dict[int, Path]:
    """Return the checkpoints in a run's folder by their step, whole or not."""
    named = {
        path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"): path
        for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    }
    return {int(step): path for step, path in named.items() if step.isdigit()}


class Snapshots:
    """Files ``<output_dir>/_freezing/<kind>-<step>.safetensors``.

    Args:
        output_dir: The run's folder.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.folder = self.output_dir / SNAPSHOTS_DIR

    def save(self, kind: str, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors; a file that a kill leaves half written never has the final name.

        Args:
            kind: What they are; one word.
            step: Optimizer steps at that time.
            tensors: The tensors by name.
        """
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        # Written at every evaluation that is the best so far: not worth waiting for the disk, as the checkpoints that
        # need it do not wait either.
        with whole_file(self._path(kind, step), fsync=False) as path:
            save_file(copies, path)

    def load(self, kind: str, step: int) -> dict[str, torch.Tensor]:
        """Read tensors.

        Args:
            kind: What they are.
            step: The step at which they were written.

        Returns:
            The tensors by name, on the CPU.

        Raises:
            FileNotFoundError: If they are not there.
        """
        path = self._path(kind, step)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: the stage needs what was written at step {step}. Resume in the folder of the run."
            )
        return load_file(path)

    def clear(self) -> None:
        """Remove what another run has left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def prune(self, step: int | None = None) -> None:
        """Remove the files that neither the run nor a checkpoint in its folder can need again.

        Each needs the last file of a kind that is older than itself; one of its own step is written anew, but for
        the best weights, which an evaluation in front of the checkpoint has written.

        Args:
            step: Optimizer steps now; None where the run is over.
        """
        resumable = [*checkpoints(self.output_dir), *([] if step is None else [step])]
        by_kind: dict[str, list[int]] = {}
        for path in self.folder.glob("*.safetensors"):
            if match := re.fullmatch(r"(\w+)-(\d+)", path.stem):
                by_kind.setdefault(match[1], []).append(int(match[2]))
        for kind, steps in by_kind.items():
            needed = {max((found for found in steps if found <= at), default=None) for at in resumable}
            needed |= {max((found for found in steps if found < at), default=None) for at in resumable}
            for found in steps:
                if found not in needed:
                    self._path(kind, found).unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step}.safetensors"
