"""What a training tells the model card, read off the trainer's record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import TrainerState

from ..data import SPLITS, PreparedData
from ..freezing.stage_results import read_stage_results
from ..models import TaskConfig
from ..models.hub_card_metadata import TrainingFacts
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory
from .metrics import task_metric_names


def training_facts(
    state: TrainerState,
    tasks: Sequence[TaskConfig],
    restores_best: bool,
    output_dir: str | Path,
    rows: Mapping[str, int],
    data: PreparedData | None = None,
) -> TrainingFacts:
    """Gather what a card says of a training.

    Args:
        state: The trainer's state.
        tasks: The model's tasks.
        restores_best: Whether the trainer's best weights are those that it ended with.
        output_dir: The trainer's folder.
        rows: By split, the number of its rows.
        data: The data, which know where they come from.

    Returns:
        The facts.
    """
    stages = read_stage_results(output_dir)
    facts = TrainingFacts(metrics=final_metrics(state, tasks, restores_best), rows=rows, stages=stages)
    if data is not None:
        facts.rows = {split: report.rows for split, report in data.reports.items() if report.rows}
        origin = data.origin
        facts.sources, facts.hub_datasets, facts.examples = origin.sources, origin.hub_datasets, origin.examples
    return facts


def final_metrics(
    state: TrainerState, tasks: Sequence[TaskConfig], restores_best: bool
) -> dict[str, dict[str, float]]:
    """Return the metrics of the weights that a training ended with.

    Args:
        state: The trainer's state.
        tasks: The model's tasks.
        restores_best: See `training_facts`.

    Returns:
        By split its last metrics; those of the best step where its weights came back at the end and were not
        evaluated again.
    """
    prefixes = {EVAL_PREFIX: "validation", **{f"{split}_": split for split in SPLITS[1:]}}
    best_step = state.best_global_step if restores_best else None
    found = TrainingHistory(state.log_history).final_metrics(prefixes, best_step)
    names = task_metric_names(tasks)
    return {
        split: {name: scores[name] for name in dict.fromkeys([*names, *scores]) if name in scores}
        for split, scores in found.items()
    }
