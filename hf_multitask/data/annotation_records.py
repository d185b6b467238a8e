"""Rows as records of annotation tools: given labels to be corrected, and predictions beside them.

The inverse of `readers/annotation_tools`, which reads the corrected records.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN
from ..models.type_aliases import JsonObject
from .readers.annotation_tools import DOCCANO, LABEL_STUDIO, PRODIGY

# Name of the control that shows the text in the labeling config of Label Studio.
TEXT_CONTROL = "text"
MODEL_VERSION = "hf-multitask"


class TextLabel(NamedTuple):
    """A label of a text, or of some of its characters.

    Args:
        label: Name of the label.
        score: Calibrated score of a predicted label.
        start: Index of the first character of an entity.
        end: Index after its last character.
    """

    label: str
    score: float | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class ReviewedText:
    """A text with its given and its predicted labels.

    Args:
        text: The text.
        text_pair: Second text of a pair.
        row: Number of the row in its data, from 1.
        score: What the rows are sorted by.
        given: Given labels by task, of the tasks that the row has labels for.
        predicted: Predicted labels by task.
    """

    text: str
    text_pair: str | None
    row: int
    score: float
    given: Mapping[str, Sequence[TextLabel]]
    predicted: Mapping[str, Sequence[TextLabel]]


def check_tool_tasks(tool: str, tasks: Sequence[TaskConfig]) -> None:
    """Check that one record of a tool can have the labels of all tasks.

    Args:
        tool: One of `RECORDS`.
        tasks: The tasks.

    Raises:
        ValueError: If there are several token tasks, or several other tasks in a format without their names.
    """
    tokens = [task.name for task in tasks if task.is_token_task]
    others = [task.name for task in tasks if not task.is_token_task and task.problem_type != REGRESSION]
    for kind, names in (("token", tokens), *([("text", others)] if tool != LABEL_STUDIO else [])):
        if len(names) > 1:
            raise ValueError(
                f"{tool}: a record has the labels of one {kind} task, found {', '.join(names)}; choose one with tasks."
            )


def label_studio_record(item: ReviewedText, tasks: Sequence[TaskConfig]) -> JsonObject:
    """Return a task of Label Studio: the given labels as its annotation, the predicted ones as its prediction.

    Args:
        item: The text.
        tasks: Tasks with labels. Each is a control of its name, ``Labels`` or ``Choices``, of the text ``text``.
    """
    data: JsonObject = {TEXT_COLUMN: item.text, "row": item.row}
    if item.text_pair is not None:
        data[TEXT_PAIR_COLUMN] = item.text_pair
    return {
        "data": data,
        "annotations": [{"result": _results(item.text, item.given, tasks)}],
        "predictions": [
            {
                "model_version": MODEL_VERSION,
                "score": item.score,
                "result": _results(item.text, {name: item.predicted[name] for name in item.given}, tasks),
            }
        ],
    }


def doccano_record(item: ReviewedText, tasks: Sequence[TaskConfig]) -> JsonObject:
    """Return a line of doccano's JSONL. It has the given labels; the predicted ones are metadata.

    Args:
        item: The text.
        tasks: At most one token task and one other task. With both, ``entities`` and ``cats``, otherwise ``label``.
    """
    given = [task for task in tasks if task.name in item.given]
    keys = [("entities" if task.is_token_task else "cats") if len(tasks) > 1 else "label" for task in given]
    record: JsonObject = {TEXT_COLUMN: item.text}
    for key, task in zip(keys, given, strict=True):
        record[key] = _doccano_labels(item.given[task.name], task)
    predicted = {task.name: _doccano_labels(item.predicted[task.name], task) for task in given}
    return record | _facts(item) | {"predicted": predicted}


def prodigy_record(item: ReviewedText, tasks: Sequence[TaskConfig]) -> JsonObject:
    """Return a line of Prodigy's JSONL. It has the given labels; the predicted ones are shown with the text.

    Args:
        item: The text.
        tasks: At most one token task, in ``spans``, and one other task, in ``accept``.
    """
    record: JsonObject = {TEXT_COLUMN: item.text}
    shown: JsonObject = _facts(item)
    for task in tasks:
        if task.name not in item.given:
            continue
        given, predicted = item.given[task.name], item.predicted[task.name]
        if task.is_token_task:
            record["spans"] = [{"start": one.start, "end": one.end, "label": one.label} for one in given]
            shown[task.name] = ", ".join(f"{item.text[one.start : one.end]} = {one.label}" for one in predicted) or "–"
            continue
        record["accept"] = [one.label for one in given]
        shown[task.name] = ", ".join(one.label for one in predicted) or "–"
        if task.problem_type == MULTI_LABEL:
            record["config"] = {"choice_style": "multiple"}
    return record | {"meta": shown}


RECORDS: dict[str, Callable[[ReviewedText, Sequence[TaskConfig]], JsonObject]] = {
    DOCCANO: doccano_record,
    LABEL_STUDIO: label_studio_record,
    PRODIGY: prodigy_record,
}


def _facts(item: ReviewedText) -> JsonObject:
    pair = {} if item.text_pair is None else {TEXT_PAIR_COLUMN: item.text_pair}
    return {"row": item.row, "score": item.score, **pair}


def _results(text: str, labels: Mapping[str, Sequence[TextLabel]], tasks: Sequence[TaskConfig]) -> list[JsonObject]:
    """Return the results of an annotation or a prediction of Label Studio."""
    results: list[JsonObject] = []
    for task in tasks:
        found = labels.get(task.name)
        if found is None:
            continue
        control = {"from_name": task.name, "to_name": TEXT_CONTROL}
        if not task.is_token_task:
            scores = [one.score for one in found if one.score is not None]
            score = {"score": min(scores)} if scores else {}
            value: JsonObject = {"choices": [one.label for one in found]}
            results.append({"id": task.name, **control, "type": "choices", "value": value, **score})
            continue
        for number, one in enumerate(found):
            value = {"start": one.start, "end": one.end, "text": text[one.start : one.end], "labels": [one.label]}
            score = {} if one.score is None else {"score": one.score}
            results.append({"id": f"{task.name}-{number}", **control, "type": "labels", "value": value, **score})
    return results


def _doccano_labels(labels: Sequence[TextLabel], task: TaskConfig) -> list[object]:
    if task.is_token_task:
        return [[one.start, one.end, one.label] for one in labels]
    return [one.label for one in labels]
