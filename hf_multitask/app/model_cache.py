"""Predictions of models for a sentence, with the last used models in memory."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from transformers.utils import CONFIG_NAME

from ..models import load_model
from ..models.predictor import OutputOptions, Predictor
from ..models.text_inputs import TEXT_COLUMN, check_input, read_input
from ..models.type_aliases import JsonObject

MODELS_IN_MEMORY = 2
# Labels with their scores in a bar chart.
BARS = 5

BARS_OF_LABELS, ENTITIES, NUMBERS = "bars", "entities", "numbers"


class TaskAnswer(NamedTuple):
    """Prediction of a model for one task, in the form that the page shows.

    Args:
        task: Name of the task.
        kind: ``"bars"`` (scores by label), ``"entities"`` (the sentence and its entities) or ``"numbers"`` (values by
            name).
        value: The prediction.
    """

    task: str
    kind: str
    value: JsonObject


class ModelCache:
    """The last used models, at most `MODELS_IN_MEMORY`, ready for the next sentence."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._predictors: OrderedDict[tuple[Path, float], Predictor] = OrderedDict()

    def answer(self, folder: Path, text: str) -> list[TaskAnswer]:
        """Predict all tasks for a sentence.

        Args:
            folder: Folder of the model.
            text: The sentence.

        Returns:
            The prediction for each task.

        Raises:
            ValueError: If the text is empty, or the model cannot be loaded or was deleted.
        """
        row = {TEXT_COLUMN: text or ""}
        check_input(row, "sentence")
        with self._lock:
            predictor = self._predictor(folder)
            (prediction,) = predictor.predict([read_input(row, "sentence", predictor.splits_words)], batch_size=1)
        return [_answer(task, value, text) for task, value in prediction.items()]

    def _predictor(self, folder: Path) -> Predictor:
        try:
            # The time changes when the model is trained again.
            key = (folder, (folder / CONFIG_NAME).stat().st_mtime)
        except OSError as error:
            raise ValueError(f"{folder.name}: the model's folder was moved or deleted. Choose another.") from error
        if key not in self._predictors:
            while len(self._predictors) >= MODELS_IN_MEMORY:
                self._predictors.popitem(last=False)
            self._predictors[key] = Predictor.of_model(*load_model(folder), OutputOptions(top_k=BARS))
        self._predictors.move_to_end(key)
        return self._predictors[key]


def _answer(task: str, value: Any, text: str) -> TaskAnswer:
    if isinstance(value, list):
        return TaskAnswer(task, BARS_OF_LABELS, {item["label"]: item["score"] for item in value})
    if "entities" in value:
        entities = [
            {"entity": entity["label"], "start": entity["start"], "end": entity["end"]} for entity in value["entities"]
        ]
        return TaskAnswer(task, ENTITIES, {"text": text, "entities": entities})
    return TaskAnswer(task, NUMBERS, value.get("values") or {task: value["value"]})
