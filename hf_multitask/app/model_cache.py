"""Answers of models to a sentence, as the page shows them."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from transformers.utils import CONFIG_NAME

from ..models import load_model
from ..models.predictor import OutputOptions, Predictor
from ..models.text_inputs import TEXT_COLUMN, check_input, read_input

MODELS_IN_MEMORY = 2
BARS = 5

BARS_OF_LABELS, ENTITIES, NUMBERS = "bars", "entities", "numbers"


class TaskAnswer(NamedTuple):
    """What a model says of a sentence for one task.

    Args:
        task: Name of the task.
        kind: ``"bars"`` for scores by label, ``"entities"`` for the sentence and its entities, ``"numbers"`` for
            values by name.
        value: That.
    """

    task: str
    kind: str
    value: dict[str, Any]


class ModelShelf:
    """The models that were asked last, ready for the next sentence."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._predictors: OrderedDict[tuple[Path, float], Predictor] = OrderedDict()

    def answer(self, folder: Path, text: str) -> list[TaskAnswer]:
        """Ask a model.

        Args:
            folder: Folder of the model.
            text: The sentence.

        Returns:
            Its answer for each task.

        Raises:
            ValueError: If there is no text, or the model cannot be loaded (any more).
        """
        row = {TEXT_COLUMN: text or ""}
        check_input(row, "sentence")
        with self._lock:
            predictor = self._predictor(folder)
            (prediction,) = predictor.predict([read_input(row, "sentence", predictor.splits_words)], batch_size=1)
        return [_answer(task, value, text) for task, value in prediction.items()]

    def _predictor(self, folder: Path) -> Predictor:
        try:
            # A model that was trained anew has another time.
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
