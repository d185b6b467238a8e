"""Metadata of a model card, in the form that the hub reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.utils import cached_file

from .configuration_multitask import MultiTaskConfig
from .encoder_loading import find_model
from .tasks import TaskConfig

# Our names of metrics by the hub's name.
KINDS_OF_METRICS = {
    "accuracy": ("accuracy",),
    "f1": ("f1", "macro_f1", "micro_f1", "strict_f1"),
    "precision": ("precision",),
    "recall": ("recall",),
    "mse": ("mse",),
    "mae": ("mae",),
}
LICENSE_FIELDS = ("license", "license_name", "license_link")
UNKNOWN_DATA = "unknown"


@dataclass(frozen=True)
class Ingredient:
    """A model that was considered for an average of weights.

    Args:
        name: Its folder or hub name.
        is_used: Whether it is part of the average.
        score: Name and value of the metric that compares the models, if they were scored.
    """

    name: str
    is_used: bool
    score: tuple[str, float] | None = None


@dataclass
class TrainingFacts:
    """Training facts shown on the model card. Unknown facts are omitted.

    Args:
        metrics: Metrics by split.
        sources: Files or hub names of the rows, by split.
        rows: Number of rows by split.
        hub_datasets: Names of the datasets from the hub.
        examples: Short texts of the training rows; pairs as mappings with ``text`` and ``text_pair``.
        stages: Entries of ``stages.json``, one per stage.
        folds: Table of the scores of a cross-validation: a header, and a row for each metric.
        ingredients: Models whose weights were averaged.
    """

    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    hub_datasets: Sequence[str] = ()
    examples: Sequence[str | Mapping[str, str]] = ()
    stages: Sequence[Mapping[str, Any]] = ()
    folds: Sequence[Sequence[str]] = ()
    ingredients: Sequence[Ingredient] = ()


def card_metadata(
    config: MultiTaskConfig,
    title: str,
    training: TrainingFacts,
    encoder: Mapping[str, Any],
    given: Mapping[str, Any],
) -> ModelCardData:
    """Build the metadata of a model card.

    Args:
        config: Config of the model.
        title: Name of the model.
        training: Facts about its training.
        encoder: Metadata of the encoder's own card.
        given: Metadata that replace the derived ones; tags are added.

    Returns:
        The metadata. The license defaults to that of the encoder.
    """
    given = {key: value for key, value in given.items() if value}
    tags = [given["tags"]] if isinstance(given.get("tags"), str) else list(given.get("tags", []))
    types = list(dict.fromkeys(hub_task(task) for task in config.tasks))
    derived: dict[str, Any] = {
        "library_name": "hf-multitask",
        "base_model": encoder_name(config) if _is_hub_name(config) else None,
        "pipeline_tag": types[0] if types else None,
        "datasets": list(training.hub_datasets) or None,
        **{key: encoder[key] for key in LICENSE_FIELDS if encoder.get(key)},
    }
    metadata = ModelCardData(
        **{**derived, **given, "tags": ["multi-task", "transformers", *types, *tags]},
        model_name=title,
        eval_results=_eval_results(config, training) or None,
    )
    if training.examples:
        metadata["widget"] = [
            {"text": example} if isinstance(example, str) else dict(example) for example in training.examples
        ]
    return metadata


def hub_task(task: TaskConfig) -> str:
    """Return the hub's name for the type of a task."""
    return "token-classification" if task.is_token_task else "text-classification"


def encoder_name(config: MultiTaskConfig) -> str:
    """Return the encoder's hub name, the last part of its folder, or its model type if neither is known."""
    name = _given_name(config)
    if not name:
        return str(getattr(config.encoder_config, "model_type", "unknown"))
    return name if _is_hub_name(config) else Path(name).name


def encoder_card(config: MultiTaskConfig) -> dict[str, Any]:
    """Read the metadata of the encoder's own card, from its folder, the hub or the hub's cache.

    Args:
        config: Config of the model.

    Returns:
        The metadata; empty if no card is found.
    """
    name = _given_name(config)
    if not name:
        return {}
    try:
        path = cached_file(
            find_model(name),
            "README.md",
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return {} if path is None else ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError):
        return {}  # the folder was deleted, or the hub has no model of this name


def _given_name(config: MultiTaskConfig) -> str:
    """Return the name or folder of the encoder that `MultiTaskModel.from_encoder` was given."""
    return getattr(config.encoder_config, "name_or_path", "")


def _is_hub_name(config: MultiTaskConfig) -> bool:
    name = _given_name(config)
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not Path(name).exists()


def _eval_results(config: MultiTaskConfig, training: TrainingFacts) -> list[EvalResult]:
    """Return the scores of each task on each split under the hub's names of metrics."""
    results = []
    for split, scores in training.metrics.items():
        sources = list(training.sources.get(split, []))
        from_hub = len(sources) == 1 and len(training.hub_datasets) == 1
        results += [
            EvalResult(
                task_type=hub_task(task),
                dataset_type=training.hub_datasets[0] if from_hub else UNKNOWN_DATA,
                dataset_name=", ".join(sources) or UNKNOWN_DATA,
                dataset_split=split,
                metric_type=metric,
                metric_name=f"{task.name}_{name}",
                metric_value=scores[f"{task.name}_{name}"],
            )
            for task in config.tasks
            for metric, names in KINDS_OF_METRICS.items()
            for name in names
            if f"{task.name}_{name}" in scores
        ]
    return results
