"""Facts of a training for the model card, from the record of the trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
from transformers import TrainerState

from ..data import SPLITS, PreparedData
from ..freezing.stage_results import read_stage_results
from ..models import TaskConfig
from ..models.hub_card import CARD_NAME, HERE, build_model_card
from ..models.hub_card_metadata import TrainingFacts
from ..runtime.fold_scores import FoldScores
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory
from .metrics import reported_metric_names

if TYPE_CHECKING:
    from .trainer import MultiTaskTrainer


def write_card(
    trainer: "MultiTaskTrainer",
    data: PreparedData | None,
    folds: FoldScores | None,
    model_name: str | None,
    dataset_names: Sequence[str] = (),
    **metadata: str | list[str] | None,
) -> None:
    """Write the model card of a trainer to its output folder.

    Args:
        trainer: The trainer.
        data: See `training_facts`.
        folds: Scores of a cross-validation.
        model_name: Title of the card.
        dataset_names: Names of the training data, instead of those of ``data``.
        metadata: Language, license, tags, encoder and datasets.
    """
    args, sets = trainer.args, {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    folder = str(args.output_dir)
    facts = training_facts(trainer.state, trainer.tasks, args.load_best_model_at_end, folder, sets, data)
    if folds is not None:
        facts.folds = folds.table()
    if dataset_names:
        facts.sources = {**facts.sources, "train": dataset_names}
    config = trainer.accelerator.unwrap_model(trainer.model).config
    card = build_model_card(config, trainer.hub_model_id or HERE, facts, model_name, **metadata)
    card.save(Path(folder, CARD_NAME))


def training_facts(
    state: TrainerState,
    tasks: Sequence[TaskConfig],
    restores_best: bool,
    output_dir: str | Path,
    sets: Mapping[str, object],
    data: PreparedData | None = None,
) -> TrainingFacts:
    """Collect the facts of a training.

    Args:
        state: State of the trainer.
        tasks: Tasks of the model.
        restores_best: Whether the training ended with its best weights.
        output_dir: Output folder of the trainer.
        sets: Dataset of each split.
        data: Prepared data with their provenance, if known.
    """
    rows = {split: len(dataset) for split, dataset in sets.items() if isinstance(dataset, datasets.Dataset)}
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
        state: State of the trainer.
        tasks: Tasks of the model.
        restores_best: See `training_facts`.

    Returns:
        The last metrics by split, or the metrics of the best step if its weights were restored at the end and not
        evaluated again.
    """
    prefixes = {EVAL_PREFIX: "validation", **{f"{split}_": split for split in SPLITS[1:]}}
    best_step = state.best_global_step if restores_best else None
    found = TrainingHistory(state.log_history).final_metrics(prefixes, best_step)
    names = reported_metric_names(tasks)
    return {
        split: {name: scores[name] for name in dict.fromkeys([*names, *scores]) if name in scores}
        for split, scores in found.items()
    }


def as_list(value: str | list[str] | None) -> list[str]:
    """Return an argument of ``Trainer.create_model_card`` as a list."""
    return [value] if isinstance(value, str) else list(value or [])
