"""Output directory of a run: its complete checkpoints, and the files that a new run may replace."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from accelerate import PartialState
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..freezing.schedule import SCHEDULE_NAME
from ..freezing.snapshots import SNAPSHOTS_DIR, checkpoints
from ..freezing.stage_results import STAGES_NAME
from ..runtime.atomic_files import read_json, write_json

METRICS_NAME = "metrics.json"
# A push uploads the folder without names that begin with _. Messages may show texts of the data.
LOG_NAME, UNPUSHED_LOG_NAME = "train.log", "_train.log"
# Key of each split in it: by task, the number of rows, words and entities that the scores are computed from.
SUPPORT = "support"
# Scores of the folds, and the folder of the fold that is being trained.
FOLDS_NAME = "folds.json"
FOLDS_FOLDER = "folds"
# trainer_state.json is written last: a checkpoint that contains it is complete.
CHECKPOINT_FILES = (SAFE_WEIGHTS_NAME, "optimizer.pt", "scheduler.pt", "trainer_state.json")


def find_last_checkpoint(output_dir: Path) -> Path | None:
    """Return the last complete checkpoint.

    Args:
        output_dir: Directory of the run.

    Returns:
        The folder of the checkpoint, or None if there is none.
    """
    complete = {
        step: path
        for step, path in checkpoints(output_dir).items()
        if all((path / name).is_file() for name in CHECKPOINT_FILES) and _is_json(path / "trainer_state.json")
    }
    return complete[max(complete)] if complete else None


def has_unfinished_folds(output_dir: Path) -> bool:
    """Return whether a cross-validation has written a checkpoint or the scores of a fold.

    Args:
        output_dir: Directory of the run.
    """
    return (output_dir / FOLDS_NAME).is_file() or (output_dir / FOLDS_FOLDER).is_dir()


def check_output_dir(output_dir: Path, overwrite: bool, resume: bool) -> Path | None:
    """Return the checkpoint to resume from, and refuse to replace a model unless asked to.

    Args:
        output_dir: Directory of the run.
        overwrite: Whether an existing model may be replaced.
        resume: Whether to resume from the last checkpoint.

    Returns:
        The checkpoint if ``resume`` is set, else None. None too if only folds of a cross-validation can be resumed.

    Raises:
        ValueError: If both ``overwrite`` and ``resume`` are set.
        FileExistsError: If ``output_dir`` is a file, or contains a model and neither ``overwrite`` nor ``resume`` is
            set.
        FileNotFoundError: If ``resume`` finds no complete checkpoint.
    """
    if overwrite and resume:
        raise ValueError("overwrite and resume exclude each other.")
    if output_dir.exists() and not output_dir.is_dir():
        raise FileExistsError(f"output_dir {str(output_dir)!r} is a file.")
    checkpoint = find_last_checkpoint(output_dir)
    if resume:
        if checkpoint is None and not has_unfinished_folds(output_dir):
            raise FileNotFoundError(f"--resume: {str(output_dir)!r} has no complete checkpoint; run without it.")
        return checkpoint
    state = PartialState()
    has_model = any((output_dir / name).exists() for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME))
    has_model = has_model or checkpoint is not None or has_unfinished_folds(output_dir)
    # Wait until every process has looked, before the first one can write.
    state.wait_for_everyone()
    if has_model and not overwrite:
        raise FileExistsError(
            f"output_dir {str(output_dir)!r} already contains a model. Use --overwrite to replace it, --resume to "
            "resume from its last checkpoint, or another output_dir."
        )
    return None


def remove_model(output_dir: Path) -> None:
    """Remove files of an earlier run that the new run would replace only at its end. Other files stay."""
    for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, METRICS_NAME, SCHEDULE_NAME, STAGES_NAME, FOLDS_NAME):
        (output_dir / name).unlink(missing_ok=True)
    for name in (SNAPSHOTS_DIR, FOLDS_FOLDER):
        shutil.rmtree(output_dir / name, ignore_errors=True)
    for path in checkpoints(output_dir).values():
        shutil.rmtree(path)


def write_metrics(
    output_dir: Path,
    metrics: Mapping[str, Mapping[str, float]],
    support: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> None:
    """Write ``metrics.json``.

    Args:
        output_dir: Directory of the run.
        metrics: Metrics by split.
        support: By split and task, see `SplitResult.support`.
    """
    values = {split: {**scores} for split, scores in metrics.items()}
    write_json(
        output_dir / METRICS_NAME,
        {split: scores | ({SUPPORT: support[split]} if split in support else {}) for split, scores in values.items()},
    )


def read_metrics(output_dir: Path) -> dict[str, dict[str, float]] | None:
    """Return the metrics by split of ``metrics.json``, None if a run has not written it."""
    values = read_json(output_dir / METRICS_NAME)
    if values is None:
        return None
    return {
        split: {name: score for name, score in scores.items() if name != SUPPORT} for split, scores in values.items()
    }


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
