"""Predictions in words, and where those of two models differ."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..models import TaskConfig
from ..models.tasks import MULTI_LABEL, REGRESSION
from .model_cache import Predictions

NOTHING = "none"
OUT_OF_SCOPE = "none of these"


class ModelAnswers(NamedTuple):
    """Predictions of a model, with its name on the page."""

    name: str
    predictions: Predictions


class Cell(NamedTuple):
    """Prediction of a model for one task of one text.

    Args:
        text: The prediction in words.
        score: Score of the label, if the task has one.
    """

    text: str
    score: float | None = None


def describe(task: TaskConfig, value: Mapping[str, Any]) -> Cell:
    """Return a prediction in words.

    Args:
        task: The task.
        value: Prediction of a `Predictor` without ``top_k``.
    """
    if task.is_token_task:
        entities = [f"{entity['text']} ({entity['label']})" for entity in value["entities"]]
        return Cell("; ".join(entities) or NOTHING)
    if task.problem_type == REGRESSION:
        if "values" in value:
            return Cell(", ".join(f"{name} {number:.4g}" for name, number in value["values"].items()))
        return Cell(f"{value['value']:.4g}")
    if task.problem_type == MULTI_LABEL:
        return Cell(", ".join(value["labels"]) or NOTHING)
    if is_rejected(value):
        return Cell(f"{value['label'] or OUT_OF_SCOPE} (nearest: {value['best_label']})", value["score"])
    return Cell(value["label"], value["score"])


def is_rejected(value: Mapping[str, Any]) -> bool:
    """Return whether a text is out of scope by its prediction, whose label is not the best one then."""
    return "best_label" in value and value["label"] != value["best_label"]


def differing_tasks(answers: Sequence[ModelAnswers], row: int) -> set[str]:
    """Return the tasks of both models whose predictions for a text differ.

    Args:
        answers: Predictions of one or two models.
        row: Index of the text.
    """
    if len(answers) < 2:
        return set()
    (first, second) = (answer.predictions for answer in answers)
    others = {task.name for task in second.tasks}
    return {
        task.name
        for task in first.tasks
        if task.name in others
        and _essence(task, first.rows[row][task.name]) != _essence(task, second.rows[row][task.name])
    }


def _essence(task: TaskConfig, value: Mapping[str, Any]) -> object:
    """Return what must be the same if two models agree. Scores never are."""
    if task.is_token_task:
        return {(entity["label"], entity["start"], entity["end"]) for entity in value["entities"]}
    if task.problem_type == REGRESSION:
        # Of two digits: no two models agree in all of them.
        numbers = value["values"] if "values" in value else {task.name: value["value"]}
        return {name: f"{number:.2g}" for name, number in numbers.items()}
    return set(value["labels"]) if task.problem_type == MULTI_LABEL else value["label"]
