"""Predictions of models, with the last used models in memory."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from transformers.utils import CONFIG_NAME

from ..models import TaskConfig, load_model
from ..models.predictor import OutputOptions, Prediction, Predictor
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN, TextInput, check_input, read_input
from ..models.type_aliases import Row

MODELS_IN_MEMORY = 2
# Labels with their scores in a bar chart.
BARS = 5
BATCH_SIZE = 32
# Rows after which another page has its turn, and progress is reported.
ROWS_PER_TURN = 256

OnShare = Callable[[float], None]
"""Called with the share of the rows that is predicted, from 0 to 1."""


class Predictions(NamedTuple):
    """Predictions of a model.

    Args:
        tasks: Tasks of the model.
        texts: The texts.
        rows: Predictions of each text by task, as `Predictor` returns them.
    """

    tasks: Sequence[TaskConfig]
    texts: Sequence[TextInput]
    rows: Sequence[Prediction]


class _LoadedModel(NamedTuple):
    """A model in memory; the predictor of labels, and that of the best labels with their scores."""

    labels: Predictor
    scores: Predictor


class ModelCache:
    """The last used models, at most `MODELS_IN_MEMORY`, ready for the next text."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._models: OrderedDict[tuple[Path, float], _LoadedModel] = OrderedDict()

    def predict(self, folder: Path, rows: Sequence[Row], on_share: OnShare | None = None) -> Predictions:
        """Predict all tasks for texts.

        Args:
            folder: Folder of the model.
            rows: Rows with ``text`` or ``tokens``.
            on_share: Called while a long list is predicted.

        Returns:
            The predictions.

        Raises:
            ValueError: If a text is empty, or the model cannot be loaded or was deleted.
        """
        texts: list[TextInput] = []
        predictions: list[Prediction] = []
        for start in range(0, len(rows), ROWS_PER_TURN):
            with self._lock:
                predictor = self._loaded(folder).labels
                part = [
                    _read(row, f"text {start + i}", predictor)
                    for i, row in enumerate(rows[start : start + ROWS_PER_TURN], 1)
                ]
                predictions += predictor.predict(part, BATCH_SIZE)
            texts += part
            if on_share is not None:
                on_share(len(texts) / len(rows))
        return Predictions(predictor.tasks, texts, predictions)

    def score(self, folder: Path, text: str) -> Predictions:
        """Predict all tasks for a text, with the scores of the best labels.

        Args:
            folder: Folder of the model.
            text: The text.

        Returns:
            The predictions; of sequence tasks, labels and their scores.

        Raises:
            ValueError: If the text is empty, or the model cannot be loaded or was deleted.
        """
        with self._lock:
            predictor = self._loaded(folder).scores
            text_input = _read({TEXT_COLUMN: text}, "text", predictor)
            return Predictions(predictor.tasks, [text_input], predictor.predict([text_input], BATCH_SIZE))

    def _loaded(self, folder: Path) -> _LoadedModel:
        try:
            # The time changes when the model is trained again.
            key = (folder, (folder / CONFIG_NAME).stat().st_mtime)
        except OSError as error:
            raise ValueError(f"{folder.name}: the model's folder was moved or deleted. Choose another.") from error
        if key not in self._models:
            while len(self._models) >= MODELS_IN_MEMORY:
                self._models.popitem(last=False)
            loaded = load_model(folder)
            self._models[key] = _LoadedModel(
                Predictor.of_model(*loaded, OutputOptions()), Predictor.of_model(*loaded, OutputOptions(top_k=BARS))
            )
        self._models.move_to_end(key)
        return self._models[key]


def _read(row: Row, place: str, predictor: Predictor) -> TextInput:
    columns = {name: row[name] for name in (TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN) if row.get(name) is not None}
    check_input(columns, place)
    return read_input(columns, place, predictor.splits_words)
