"""Offsets of entities in UTF-16 code units, in which JavaScript, Java and C# count."""

from itertools import accumulate

from ..models.type_aliases import JsonObject


def to_utf16(prediction: JsonObject, text: str) -> JsonObject:
    """Return a prediction whose offsets count UTF-16 code units instead of code points.

    Args:
        prediction: Prediction of the pipeline for one text, by task.
        text: Text that its offsets count characters of.

    Returns:
        The prediction; ``text.slice(start, end)`` is the entity in JavaScript.
    """
    if text.isascii():
        return prediction
    units = list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
    return {name: _convert(answer, units) for name, answer in prediction.items()}


def _convert(answer: object, units: list[int]) -> object:
    if not isinstance(answer, dict) or "entities" not in answer:
        return answer
    entities = [
        {**entity, "start": units[entity["start"]], "end": units[entity["end"]]} for entity in answer["entities"]
    ]
    return {**answer, "entities": entities}
