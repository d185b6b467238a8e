"""Records of annotation tools, read into plain rows.

A row has ``text`` and the chosen classes under plain names: a single class as it is, several as a list. If the record
has spans, the row has ``spans``, which `read_spans` reads. A record of text classification only leaves a token task
without labels. A span keeps its own ``text``, if the tool exports it, to check its offsets.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from ...models.messages import unknown_name_message
from ...models.text_inputs import TEXT_COLUMN
from ...models.type_aliases import Row
from .spans import is_span_list, read_span

SPANS_COLUMN = "spans"

_DOCCANO_TEXTS = ("text", "data")
_DOCCANO_LABELS = ("label", "labels", "entities")

_LABEL_STUDIO_FIELDS = (
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
    "history",
)

_ACCEPT = "accept"
_REJECT = "reject"
_ANSWERS = (_ACCEPT, _REJECT, "ignore")


class _Result(NamedTuple):
    """The annotation of one control of Label Studio."""

    control: object
    kind: object
    value: object
    place: str


def doccano(record: object, place: str) -> Row | None:
    """Read a line of doccano's JSONL: sequence labeling, relations, intents with slots, or text classification.

    Args:
        record: Record with ``text`` (``data`` in old exports) and ``label``, ``labels`` or ``entities``, which contain
            spans or classes; ``cats`` contains classes. Relations and comments are ignored.
        place: Name of the record in messages.

    Returns:
        The row. Classes are under the key of the record.

    Raises:
        ValueError: If the record has another form.
    """
    record = _mapping(record, place, "a record")
    row: Row = {TEXT_COLUMN: _text(record, _DOCCANO_TEXTS, place)}
    keys = [key for key in (*_DOCCANO_LABELS, "cats") if record.get(key) is not None]
    if not keys:
        raise _missing_key(record, (*_DOCCANO_LABELS, "cats"), place)
    span_keys = [key for key in keys if key != "cats" and is_span_list(record[key], empty=True)]
    filled = [key for key in span_keys if record[key]]
    if len(filled) > 1:
        raise ValueError(f"{place}: expected one list of spans, found several: {', '.join(map(repr, filled))}.")
    if span_keys:
        key = (filled or span_keys)[0]
        row[SPANS_COLUMN] = _spans(record[key], f"{place}: {key!r}")
    for key in keys:
        if key not in span_keys and record[key] != []:
            row[key] = _one_or_list(_classes(record[key], f"{place}: {key!r}"))
    return row


def label_studio(record: object, place: str, text_field: str | None = None) -> Row | None:
    """Read a task of Label Studio's JSON or JSON-MIN export.

    Args:
        record: Task with its text. Spans come from ``Labels``, classes from ``Choices`` about the whole
            text. Everything else, such as relations and ratings, is ignored. JSON-MIN does not distinguish fields of
            the data from choices, so all of its strings are kept.
        place: Name of the record in messages.
        text_field: Field of the text, under which the row has it too. Defaults to ``text``, or else to the only string
            of the task's data.

    Returns:
        The row, with choices under the name of their control; None if the task was skipped or not annotated.

    Raises:
        ValueError: If the record has another form, several annotations that were not canceled, or spans of several
            controls, which are several token tasks.
    """
    record = _mapping(record, place, "a task")
    if "annotations" not in record:
        return _label_studio_min(record, place, text_field or TEXT_COLUMN)
    data = _mapping(record.get("data"), f"{place}: 'data'", "the fields of the task")
    annotation = _only_annotation(record["annotations"], place)
    if annotation is None:
        return None
    results = []
    for i, result in enumerate(_list(annotation.get("result"), f"{place}: 'result'")):
        here = f"{place}: result {i}"
        result = _mapping(result, here, "a result")
        results.append(_Result(result.get("from_name"), result.get("type"), result.get("value"), here))
    return _label_studio_row(_label_studio_text(data, f"{place}: 'data'", text_field), results, place)


def _no_binary_label() -> str | None:
    return None


def prodigy(record: object, place: str, find_binary_label: Callable[[], str | None] = _no_binary_label) -> Row | None:
    """Read a line of Prodigy's JSONL, as ``db-out`` writes it.

    Args:
        record: Record with ``text``, ``spans``, ``label`` or ``accept`` with the chosen options, and ``answer``, which
            defaults to ``accept``, as for ``db-in``. An accepted suggestion of a single span, as in ``ner.teach``,
            looks like a record with all its spans and is read as one. Without any of them, it has no label, or no
            spans if it was accepted.
        place: Name of the record in messages.
        find_binary_label: Returns the label that all records accept or reject, if there is only one; see
            `binary_label`. A record that rejects it has the class ``not <label>``.

    Returns:
        The row, with the classes under ``label`` and ``accept``; None if the record was rejected or ignored.

    Raises:
        ValueError: If the record has another form.
    """
    record = _mapping(record, place, "a record")
    answer = record.get("answer", _ACCEPT)
    if answer not in _ANSWERS:
        raise ValueError(f"{place}: {unknown_name_message('answer', answer, _ANSWERS)}")
    if answer == _REJECT and _is_about_label(record) and record["label"] == find_binary_label():
        return {TEXT_COLUMN: _text(record, (TEXT_COLUMN,), place), "label": f"not {record['label']}"}
    if answer != _ACCEPT:
        return None
    row: Row = {TEXT_COLUMN: _text(record, (TEXT_COLUMN,), place)}
    has_classes = any(record.get(key) is not None for key in ("label", _ACCEPT))
    if record.get("label") is not None:
        row["label"] = _classes([record["label"]], f"{place}: 'label'")[0]
    if record.get(_ACCEPT) is not None:
        chosen = _classes(record[_ACCEPT], f"{place}: {_ACCEPT!r}")
        config = _mapping(record.get("config", {}), f"{place}: 'config'", "the settings of the task")
        row[_ACCEPT] = chosen if config.get("choice_style") == "multiple" else _one_or_list(chosen)
    spans = record.get(SPANS_COLUMN)
    if spans is not None or (not has_classes and "answer" in record):
        row[SPANS_COLUMN] = _spans([] if spans is None else spans, f"{place}: {SPANS_COLUMN!r}")
    return row


def binary_label(records: Iterable[object]) -> str | None:
    """Return the label that all records of Prodigy are about, if they accept or reject only one, without spans."""
    labels = {str(record["label"]) for record in records if _is_about_label(record)}
    return labels.pop() if len(labels) == 1 else None


def _is_about_label(record: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a record of Prodigy accepts or rejects one label for its text."""
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("label"), str)
        and record.get(SPANS_COLUMN) is None
        and record.get(_ACCEPT) is None
    )


def spacy(record: object, place: str) -> Row | None:
    """Read an example in the form of training data in spaCy's documentation.

    Args:
        record: ``[text, {"entities": [[0, 5, "PER"]], "cats": {"POSITIVE": 1}}]``, or one mapping with ``text``,
            ``entities`` and ``cats``.
        place: Name of the record in messages.

    Returns:
        The row, with the classes of value 1 as a list under ``cats``.

    Raises:
        ValueError: If the record has another form.
    """
    if isinstance(record, (list, tuple)):
        if len(record) != 2:
            raise ValueError(f"{place}: expected [text, annotations], found {record!r:.80}.")
        record = {**_mapping(record[1], place, "annotations"), TEXT_COLUMN: record[0]}
    record = _mapping(record, place, "[text, annotations] or a mapping")
    row: Row = {TEXT_COLUMN: _text(record, (TEXT_COLUMN,), place)}
    keys = [key for key in ("entities", "cats") if record.get(key) is not None]
    if not keys:
        raise _missing_key(record, ("entities", "cats"), place)
    if "entities" in keys:
        row[SPANS_COLUMN] = _spans(record["entities"], f"{place}: 'entities'")
    if "cats" in keys:
        cats = _mapping(record["cats"], f"{place}: 'cats'", "classes with 0 or 1")
        for name, value in cats.items():
            if value not in (0, 1):
                raise ValueError(f"{place}: 'cats': expected 0 or 1 for {name!r}, found {value!r:.80}.")
        row["cats"] = [name for name, value in cats.items() if value == 1]
    return row


DOCCANO, LABEL_STUDIO, PRODIGY, SPACY = "doccano", "label_studio", "prodigy", "spacy"
ANNOTATION_TOOLS: dict[str, Callable[[object, str], Row | None]] = {
    DOCCANO: doccano,
    LABEL_STUDIO: label_studio,
    PRODIGY: prodigy,
    SPACY: spacy,
}


def _only_annotation(value: object, place: str) -> Mapping | None:
    """Return the only annotation that was not canceled, or None if there is none."""
    listed = _list(value, f"{place}: 'annotations'")
    annotations = [_mapping(one, f"{place}: annotation {i}", "an annotation") for i, one in enumerate(listed)]
    kept = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    if len(kept) > 1:
        names = ", ".join(f"{one.get('id')!r} by {one.get('completed_by')!r}" for one in kept)
        raise ValueError(
            f"{place}: expected one annotation that was not canceled, found {len(kept)}: {names}. Keep one per task "
            "before the export."
        )
    return kept[0] if kept else None


def _label_studio_text(data: Mapping, place: str, field: str | None) -> tuple[str, str]:
    """Return the name of the row's text, and the text."""
    if field is not None or TEXT_COLUMN in data:
        field = field or TEXT_COLUMN
        return field, _text(data, (field,), place)
    strings = [name for name, value in data.items() if isinstance(value, str)]
    if len(strings) != 1:
        found = ", ".join(map(repr, strings)) or "none"
        raise ValueError(
            f"{place}: expected the text under 'text', or a single string, found {found}; name the field of the text "
            f"as `columns: {{text: {strings[0] if strings else '…'}}}`."
        )
    return TEXT_COLUMN, data[strings[0]]


def _label_studio_min(record: Mapping, place: str, field: str) -> Row | None:
    if "annotation_id" not in record:
        raise _missing_key(record, ("annotations", "annotation_id"), place)
    if record["annotation_id"] is None:
        return None
    results: list[_Result] = []
    for name, value in record.items():
        here = f"{place}: {name!r}"
        if name in _LABEL_STUDIO_FIELDS or name == field:
            continue
        if isinstance(value, str) and value:
            results.append(_Result(name, "choices", {"choices": [value]}, here))
        elif isinstance(value, Mapping) and "choices" in value:
            results.append(_Result(name, "choices", value, here))
        elif isinstance(value, list):
            for item in value:
                kinds = [key for key in item if key.endswith("labels")] if isinstance(item, Mapping) else []
                results += [_Result(name, kind, item, here) for kind in kinds]
    if field not in record:
        hint = "If the text has another name, give it as `columns: {text: …}`."
        raise ValueError(f"{_missing_key(record, (field,), place)} {hint}")
    return _label_studio_row((field, _text(record, (field,), place)), results, place)


def _label_studio_row(text: tuple[str, str], results: Sequence[_Result], place: str) -> Row:
    row: Row = {text[0]: text[1], SPANS_COLUMN: []}
    for result in results:
        if result.kind == "labels":
            row[SPANS_COLUMN] += _labeled_spans(result)
            if not isinstance(result.control, (str, type(None))):
                raise ValueError(f"{result.place}: expected the name of a control, found {result.control!r:.80}.")
        elif result.kind == "choices":
            value = _mapping(result.value, result.place, "a value")
            # Choices with offsets are about a region, not about the whole text.
            if "start" in value:
                continue
            if not isinstance(result.control, str) or result.control in row:
                raise ValueError(f"{result.place}: expected a unique name per control, found {result.control!r}.")
            row[result.control] = _one_or_list(_classes(value.get("choices"), f"{result.place}: 'choices'"))
        elif str(result.kind).endswith("labels"):
            raise ValueError(f"{result.place}: expected spans of plain text, 'labels', found {result.kind!r}.")
    controls = dict.fromkeys(result.control for result in results if result.kind == "labels")
    if len(controls) > 1:
        raise ValueError(
            f"{place}: expected the spans of one control, found {', '.join(map(repr, controls))}; use one file and "
            "one task per layer."
        )
    return row


def _labeled_spans(result: _Result) -> list[Row]:
    value = _mapping(result.value, result.place, "a value")
    labels = _classes(value.get("labels"), f"{result.place}: 'labels'")
    if not labels:
        raise ValueError(f"{result.place}: expected at least one label, found none.")
    return _spans([{**value, "label": label} for label in labels], result.place)


def _spans(values: object, place: str) -> list[Row]:
    """Read spans into mappings, with their texts if given."""
    spans = []
    for i, item in enumerate(_list(values, place)):
        span = read_span(item, f"{place}: span {i}")
        spans.append({key: value for key, value in span._asdict().items() if value is not None})
    return spans


def _classes(values: object, place: str) -> list[str | int]:
    classes = _list(values, place)
    for value in classes:
        if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
            raise ValueError(f"{place}: expected the name of a class, found {value!r:.80}.")
    return list(classes)


def _one_or_list(classes: list[str | int]) -> object:
    """Return a single class as it is, and None for no class: the tools also write lists for single-label tasks."""
    return classes if len(classes) > 1 else next(iter(classes), None)


def _text(record: Mapping, keys: Sequence[str], place: str) -> str:
    key = next((key for key in keys if key in record), None)
    if key is None:
        raise _missing_key(record, keys, place)
    if not isinstance(record[key], str):
        raise ValueError(f"{place}: {key!r} must be a string, found {record[key]!r:.80}.")
    return record[key]


def _mapping(value: object, place: str, expected: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: expected {expected}, a JSON object; found {value!r:.80}.")
    return value


def _list(value: object, place: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{place}: expected a list, found {value!r:.80}.")
    return value


def _missing_key(record: Mapping, keys: Sequence[str], place: str) -> ValueError:
    expected = " or ".join(map(repr, keys))
    return ValueError(f"{place}: expected the key {expected}; {unknown_name_message('key', keys[0], record)}")
