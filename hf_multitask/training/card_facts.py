"""Facts of a training for the model card, from the record of the trainer."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import datasets
from transformers import TrainerState, TrainingArguments

from ..data import SPLITS, PreparedData
from ..freezing.stage_results import read_stage_results
from ..models import MultiTaskConfig, TaskConfig
from ..models.hub_card import CARD_NAME, HERE, build_model_card
from ..models.hub_card_metadata import TrainingFacts
from ..runtime.fold_scores import FoldScores
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory
from .metrics import reported_metric_names


def write_card(
    folder: str,
    config: MultiTaskConfig,
    hub_model_id: str | None,
    facts: TrainingFacts,
    model_name: str | None,
    metadata: Mapping[str, str | list[str] | None],
) -> None:
    """Write the model card of a training.

    Args:
        folder: Folder of the model.
        config: Config of the model.
        hub_model_id: Name of the model on the hub, if it has one.
        facts: Facts of the training.
        model_name: Title of the card.
        metadata: What `card_metadata` returns.
    """
    card = build_model_card(config, hub_model_id or HERE, facts, model_name, **metadata)
    card.save(Path(folder, CARD_NAME))


def card_metadata(
    language: str | None,
    license: str | None,
    tags: str | list[str] | None,
    finetuned_from: str | None,
    tasks: str | list[str] | None,
    dataset_tags: str | list[str] | None,
) -> dict[str, str | list[str] | None]:
    """Return the metadata of a card from arguments of ``Trainer.create_model_card``.

    Args:
        language: Language of the texts, if known.
        license: License of the model. Defaults to the license of the encoder.
        tags: Further tags.
        finetuned_from: Hub name of the encoder. Defaults to the encoder's own.
        tasks: Further names of tasks on the hub; those of the model's tasks are always there.
        dataset_tags: Hub names of the datasets. Defaults to those of the data.
    """
    return {
        "language": language,
        "license": license,
        "tags": [*as_list(tasks), *as_list(tags)],
        "base_model": finetuned_from,
        "datasets": as_list(dataset_tags),
    }


def training_facts(
    args: TrainingArguments,
    state: TrainerState,
    tasks: Sequence[TaskConfig],
    sets: Mapping[str, object],
    data: PreparedData | None = None,
    folds: FoldScores | None = None,
    dataset: str | list[str] | None = None,
    dataset_args: str | list[str] | None = None,
) -> TrainingFacts:
    """Collect the facts of a training.

    Args:
        args: Arguments of the trainer.
        state: State of the trainer.
        tasks: Tasks of the model.
        sets: Dataset of each split.
        data: Prepared data with their provenance, and texts to try the model with, if known.
        folds: Scores of a cross-validation.
        dataset: Names of the training data, for the table of the data. Defaults to those of ``data``.
        dataset_args: Arguments that each dataset was loaded with, shown after its name.
    """
    rows = {split: len(dataset) for split, dataset in sets.items() if isinstance(dataset, datasets.Dataset)}
    stages = read_stage_results(str(args.output_dir))
    metrics = final_metrics(state, tasks, args.load_best_model_at_end)
    facts = TrainingFacts(metrics=metrics, rows=rows, stages=stages)
    if folds is not None:
        facts.folds = folds.table()
    if data is not None:
        facts.rows = {split: report.rows for split, report in data.reports.items() if report.rows}
        origin = data.origin
        facts.sources, facts.hub_datasets, facts.examples = origin.sources, origin.hub_datasets, origin.examples
    names = zip_longest(as_list(dataset), as_list(dataset_args), fillvalue="")
    if dataset_names := [" ".join(parts).strip() for parts in names]:
        facts.sources = {**facts.sources, "train": dataset_names}
    return facts


def final_metrics(
    state: TrainerState, tasks: Sequence[TaskConfig], restores_best: bool
) -> dict[str, dict[str, float]]:
    """Return the metrics of the weights that a training ended with.

    Args:
        state: State of the trainer.
        tasks: Tasks of the model.
        restores_best: Whether the training ended with its best weights.

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
