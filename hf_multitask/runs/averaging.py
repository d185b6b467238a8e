"""Averaging of the weights of several models of the same tasks (model soups, Wortsman et al. 2022)."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskModel, load_model
from ..models.hub_card import CARD_NAME, HERE, build_model_card
from ..models.hub_card_metadata import Ingredient, TrainingFacts
from ..models.modeling_adapters import merged_copy
from ..models.type_aliases import JsonObject, Row
from ..runtime.atomic_files import write_json
from ..runtime.folder_lock import only_writer
from .evaluation import evaluate_model
from .output_dir import METRICS_NAME, check_output_dir, remove_model

logger = logging.getLogger(__name__)

VALIDATION = "validation"
# Scores that choose between models, the first that the data has labels for; the loss, where less is better, for a
# model of regressions.
SCORES = ("joint_accuracy", "mean_score")
LOSS = "loss"
# Entries of a config that say nothing about what the model computes, or repeat the labels of its tasks.
_ORIGIN = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
_REPEATED = ("id2label", "label2id", "num_labels")


@dataclass(frozen=True)
class AveragedModel:
    """Result of `average_models`.

    Args:
        ingredients: The models, and whether each is part of the average; with their scores on validation rows.
        metrics: Metrics of the average on validation rows; empty without them.
    """

    ingredients: list[Ingredient]
    metrics: dict[str, float]


def average_models(
    folders: Sequence[str | Path],
    output: str | Path,
    data: str | Path | Sequence[Row] | None = None,
    greedy: bool = False,
    overwrite: bool = False,
    batch_size: int = 64,
    **options: Any,
) -> AveragedModel:
    """Average the weights of models that were trained from the same encoder, such as those of several seeds.

    The heads start from other random weights with each seed. The average is good only if the models have stayed close
    to each other, so compare it with them: give ``data``.

    Args:
        folders: Folders or hub names of the models.
        output: Folder to write the average to: model, tokenizer and card, with ``metrics.json`` if ``data`` is given.
        data: Validation rows, to score each model and the average: a file or rows.
        greedy: Whether to add the models from the best to the worst, and to leave out each that makes the score on
            ``data`` worse (the paper's greedy soup).
        overwrite: Whether to replace a model that ``output`` already contains.
        batch_size: Rows per batch in the evaluation.
        options: More fields of `DataConfig` for ``data``, such as ``columns``.

    Returns:
        The models that are part of the average, and the scores.

    Raises:
        ValueError: If there are fewer than two models, they differ in tasks, labels, encoder, tokenizer or shapes (the
            message names the difference), or ``greedy`` is set without ``data``.
        FileExistsError: If ``output`` contains a model and ``overwrite`` is not set, or a run is writing to it.
    """
    names = [str(folder) for folder in folders]
    if len(names) < 2:
        raise ValueError(f"average: expected at least two models, found {', '.join(names) or 'none'}.")
    if greedy and data is None:
        raise ValueError("average: greedy adds models by their scores on validation rows; give data.")
    with only_writer(Path(output)):
        return _average(names, Path(output), data, greedy, overwrite, batch_size, options)


def _average(
    names: Sequence[str],
    output: Path,
    data: str | Path | Sequence[Row] | None,
    greedy: bool,
    overwrite: bool,
    batch_size: int,
    options: Mapping[str, Any],
) -> AveragedModel:
    check_output_dir(output, overwrite, resume=False)
    model, tokenizer = _load(names[0])
    for task in model.config.tasks:
        task.temperature = 1.0  # those of the models are not that of their average
        if task.abstention is not None and task.abstention.reads_states:
            raise ValueError(
                f"average: task {task.name!r} abstains by distances of states, which are those of one model; average "
                "models that abstain by energy or max_softmax."
            )
        if task.abstention is not None:
            task.abstain = replace(task.abstention, threshold=None).to_dict()
        if task.entity_precision is not None:
            task.min_score = None
    average = _Average(names[0], model, tokenizer)
    for name in names[1:]:
        average.check(name, *_load(name))

    def score(scored: MultiTaskModel) -> dict[str, float]:
        return {} if data is None else evaluate_model(scored, tokenizer, data, batch_size, **options)

    members = [(name, score(_load(name)[0])) for name in names]
    if greedy:
        members.sort(key=lambda member: _goodness(member[1]), reverse=True)
    ingredients: list[Ingredient] = []
    metrics: dict[str, float] = {}
    for name, own in members:
        before = average.add(_load(name)[0])
        found = score(average.model()) if greedy else {}
        is_used = not greedy or not metrics or _goodness(found) >= _goodness(metrics)
        if is_used:
            metrics = found
        else:
            average.restore(before)
        ingredients.append(Ingredient(name, is_used, _main_score(own)))
        logger.info("%s: %s%s", name, _in_words(own), "" if is_used else "; left out")
    averaged = average.model()
    metrics = metrics if greedy else score(averaged)
    logger.info("average: %s", _in_words(metrics))
    remove_model(output)
    _write(averaged, tokenizer, output, ingredients, metrics)
    return AveragedModel(ingredients, metrics)


def _load(name: str) -> tuple[MultiTaskModel, PreTrainedTokenizerBase]:
    """Load a model with its adapters merged: the mean of their factors is not that of their products."""
    model, tokenizer = load_model(name)
    return merged_copy(model), tokenizer


class _Average:
    """Running mean of weights, in float64."""

    def __init__(self, name: str, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.name = name
        self.target = model
        self.config = _comparable(model.config.to_dict())
        self.tokenizer = _token_rules(tokenizer)
        self.shapes = _shapes(model)
        self.sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in _weights(model).items()}
        self.count = 0

    def check(self, name: str, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise if a model cannot be averaged with the first."""
        difference = first_difference(self.config, _comparable(model.config.to_dict()))
        if difference is None and self.shapes != _shapes(model):
            difference = first_difference(self.shapes, _shapes(model))
        if difference is None and _token_rules(tokenizer) != self.tokenizer:
            difference = "the tokenizers"
        if difference is not None:
            raise ValueError(f"average: {name!r} cannot be averaged with {self.name!r}; they differ in {difference}.")

    def add(self, model: MultiTaskModel) -> dict[str, torch.Tensor]:
        """Add a model, and return the sums before."""
        before, weights = self.sums, _weights(model)
        self.sums = {name: total + weights[name].double() for name, total in before.items()}
        self.count += 1
        return before

    def restore(self, sums: dict[str, torch.Tensor]) -> None:
        """Take back the last model that was added."""
        self.sums = sums
        self.count -= 1

    @torch.no_grad()
    def model(self) -> MultiTaskModel:
        """Return the model with the mean weights."""
        for name, weight in _weights(self.target).items():
            weight.copy_(self.sums[name] / self.count)
        return self.target


def first_difference(first: object, second: object, place: str = "") -> str | None:
    """Return the place and the values where two nested mappings or lists differ, None if they are equal."""
    if first == second:
        return None
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        pairs = [(str(key), first.get(key), second.get(key)) for key in dict.fromkeys([*first, *second])]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(str(i), one, other) for i, (one, other) in enumerate(zip(first, second, strict=True))]
    else:
        return f"{place or 'their values'}: {first!r:.200} and {second!r:.200}"
    for key, one, other in pairs:
        if (found := first_difference(one, other, f"{place}.{key}" if place else key)) is not None:
            return found
    return None


def _token_rules(tokenizer: PreTrainedTokenizerBase) -> JsonObject:
    """Return what determines the tokens of a text, without the padding and truncation of the tokenizer's last call."""
    rules: JsonObject = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in rules.items() if name not in ("padding", "truncation")}


def _comparable(config: JsonObject) -> JsonObject:
    """Return the entries of a config that determine what its model computes, with the tasks by name."""
    kept = {key: value for key, value in config.items() if key not in _ORIGIN + _REPEATED}
    kept["encoder_config"] = {key: value for key, value in kept["encoder_config"].items() if key not in _ORIGIN}
    structure = ("type", "labels", "problem_type", "label_subword", "head", "mix_layers", "private_layers", "crf")
    kept["tasks"] = {task["name"]: {key: task[key] for key in structure} for task in kept["tasks"]}
    return kept


def _weights(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def _shapes(model: MultiTaskModel) -> JsonObject:
    return {name: list(weight.shape) for name, weight in _weights(model).items()}


def _main_score(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the name and the value of the metric that chooses between models, None without metrics."""
    name = next((name for name in (*SCORES, LOSS) if name in metrics), None)
    return None if name is None else (name, metrics[name])


def _goodness(metrics: Mapping[str, float]) -> float:
    """Return a number that is greater for better metrics."""
    found = _main_score(metrics)
    if found is None:
        raise ValueError(f"average: data has no labels to score models by; expected {', '.join((*SCORES, LOSS))}.")
    return -found[1] if found[0] == LOSS else found[1]


def _in_words(metrics: Mapping[str, float]) -> str:
    found = _main_score(metrics)
    return "not scored" if found is None else f"{found[0]} {found[1]:.4f}"


def _write(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    ingredients: Sequence[Ingredient],
    metrics: Mapping[str, float],
) -> None:
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    by_split = {VALIDATION: dict(metrics)} if metrics else {}
    if by_split:
        write_json(output / METRICS_NAME, by_split)
    facts = TrainingFacts(metrics=by_split, ingredients=list(ingredients))
    build_model_card(model.config, HERE, facts).save(output / CARD_NAME)
