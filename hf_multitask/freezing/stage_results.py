"""Results of each stage: ``stages.json``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState

from ..models.layer_groups import LayerGroups
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from ..runtime.training_history import Evaluation, TrainingHistory
from .replay import Transition
from .schedule import FreezeSchedule
from .stage import greater_is_better

STAGES_NAME = "stages.json"


def stage_results(
    schedule: FreezeSchedule,
    groups: LayerGroups,
    changes: Sequence[Transition],
    state: TrainerState,
    steps_per_epoch: int,
    measured: Mapping[str, Mapping[str, float]],
) -> list[JsonObject]:
    """Summarize each stage that the run has reached.

    Args:
        schedule: The schedule.
        groups: The model's groups.
        changes: Changes so far.
        state: State of the trainer.
        steps_per_epoch: Optimizer steps per epoch.
        measured: ``seconds`` and ``peak_memory_bytes`` by stage.

    Returns:
        For each stage: its name; reason and step of its start; length in steps, epochs and seconds; peak memory (of
        the device, or resident memory of the process if there is none); groups and parameters that train at its
        start; mean training losses; the best and the last value of each metric; and the changes within it.
    """
    history = TrainingHistory(state.log_history)
    evaluations = history.evaluations()
    starts = [change for change in changes if change.starts_stage]
    sizes = {group.name: group.num_parameters for group in groups}
    results = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        end = state.global_step if following is None else following.step
        stage = schedule.stages[start.stage]
        seen = [evaluation for evaluation in evaluations if start.step < evaluation.step <= end]
        results.append(
            {
                "name": stage.name,
                "reason": start.reason,
                "start_step": start.step,
                "steps": end - start.step,
                "epochs": round((end - start.step) / steps_per_epoch, 4),
                **measured.get(stage.name, {}),
                "trained_groups": list(start.trained),
                "trainable_parameters": sum(sizes[name] for name in start.trained),
                "trainable_share": sum(sizes[name] for name in start.trained) / sum(sizes.values()),
                "train_losses": history.mean_train_losses(start.step, end),
                "best": _best(seen),
                "last": seen[-1].scores if seen else {},
                "restored_step": None if following is None else following.restore_step,
                "changes": [
                    {"step": change.step, "reason": change.reason, "trained_groups": list(change.trained)}
                    for change in changes
                    if change.stage == start.stage and not change.starts_stage
                ],
            }
        )
    return results


def read_stage_results(folder: str | Path) -> list[JsonObject]:
    """Read the stage results of a run.

    Args:
        folder: Folder of the run.

    Returns:
        The stages, as `stage_results` returns them; an empty list if the run had no schedule.
    """
    path = Path(folder, STAGES_NAME)
    return json.loads(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else []


def write_stage_results(folder: Path, *args: Any) -> None:
    """Write the results of the stages to ``stages.json`` in a folder; see `stage_results` for the arguments."""
    write_json(folder / STAGES_NAME, {"stages": stage_results(*args)})


def _best(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Return the best value of each metric."""
    best: dict[str, float] = {}
    for evaluation in evaluations:
        for name, value in evaluation.scores.items():
            choose = max if greater_is_better(name) else min
            best[name] = choose(best.get(name, value), value)
    return best
