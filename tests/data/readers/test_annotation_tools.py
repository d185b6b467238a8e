"""Exports of annotation tools become plain rows, and ambiguous ones are refused."""

import copy

import pytest

from hf_multitask.data.readers.annotation_tools import ANNOTATION_TOOLS
from hf_multitask.data.readers.spans import read_spans
from hf_multitask.models.text_words import split_words

TEXT = "Anna is in Paris"
SPANS = [{"start": 0, "end": 4, "label": "PER"}, {"start": 11, "end": 16, "label": "LOC"}]
LISTS = [[0, 4, "PER"], [11, 16, "LOC"]]
PLACE = "export.jsonl:3"


def read(tool, record):
    before = copy.deepcopy(record)
    row = ANNOTATION_TOOLS[tool](record, PLACE)
    assert record == before
    return row


def labels(start, end, label, control="ner", **value):
    value = {"start": start, "end": end, "labels": [label], **value}
    return {"id": "x", "from_name": control, "to_name": "text", "type": "labels", "origin": "manual", "value": value}


def choices(*names, control="intent", **value):
    value = {"choices": list(names), **value}
    return {"id": "y", "from_name": control, "to_name": "text", "type": "choices", "value": value}


def task(*results, **annotation):
    annotation = {"id": 7, "completed_by": 1, "was_cancelled": False, "result": list(results), **annotation}
    return {"id": 1, "data": {"text": TEXT}, "annotations": [annotation], "drafts": [], "predictions": []}


RESULTS = [labels(0, 4, "PER"), labels(11, 16, "LOC")]


def minimal(**fields):
    own = {"annotator": 1, "annotation_id": 7, "created_at": "2024", "updated_at": "2024", "lead_time": 8.4}
    return {"text": TEXT, "id": 1, **fields, **own}


MINIMAL_SPANS = [{"start": 0, "end": 4, "labels": ["PER"]}, {"start": 11, "end": 16, "labels": ["LOC"]}]
TOKENS = [{"text": "Anna", "start": 0, "end": 4, "id": 0, "ws": True}]


@pytest.mark.parametrize(
    ("tool", "record", "others"),
    [
        ("doccano", {"id": 1, "text": TEXT, "label": LISTS, "Comments": []}, {}),
        ("doccano", {"id": 1, "data": TEXT, "label": LISTS}, {}),
        ("doccano", {"text": TEXT, "labels": LISTS}, {}),
        (
            "doccano",
            {
                "id": 1,
                "text": TEXT,
                "relations": [{"id": 0, "from_id": 0, "to_id": 1, "type": "in"}],
                "entities": [
                    {"id": i, "start_offset": start, "end_offset": end, "label": label}
                    for i, (start, end, label) in enumerate(LISTS)
                ],
            },
            {},
        ),
        ("doccano", {"text": TEXT, "entities": LISTS, "cats": ["Where"]}, {"cats": "Where"}),
        ("doccano", {"text": TEXT, "entities": LISTS, "label": []}, {}),
        ("label_studio", task(*RESULTS), {}),
        ("label_studio", task(*RESULTS, choices("Where")), {"intent": "Where"}),
        ("label_studio", task(*RESULTS, choices("A", "B")), {"intent": ["A", "B"]}),
        ("label_studio", task(*RESULTS, choices("sure", control="certainty", start=0, end=4)), {}),
        ("label_studio", task(*RESULTS, {"from_id": "x", "to_id": "x", "type": "relation"}), {}),
        ("label_studio", task(*RESULTS, {"from_name": "r", "type": "rating", "value": {"rating": 4}}), {}),
        ("label_studio", minimal(ner=MINIMAL_SPANS), {}),
        (
            "label_studio",
            minimal(
                ner=MINIMAL_SPANS, intent="Where", topics={"choices": ["A", "B"]}, note="", rating=[{"rating": 4}]
            ),
            {"intent": "Where", "topics": ["A", "B"]},
        ),
        ("prodigy", {"text": TEXT, "spans": SPANS, "answer": "accept", "_view_id": "ner_manual"}, {}),
        ("prodigy", {"text": TEXT, "spans": [{**span, "token_start": 0} for span in SPANS], "tokens": TOKENS}, {}),
        ("prodigy", {"text": TEXT, "spans": SPANS, "accept": ["A"], "answer": "accept"}, {"accept": "A"}),
        ("spacy", [TEXT, {"entities": LISTS}], {}),
        ("spacy", (TEXT, {"entities": [tuple(span) for span in LISTS], "cats": {}}), {"cats": []}),
        ("spacy", {"text": TEXT, "entities": LISTS}, {}),
        ("spacy", [TEXT, {"entities": LISTS, "cats": {"A": 1.0, "B": 0, "C": True}}], {"cats": ["A", "C"]}),
    ],
)
def test_each_export_gives_the_same_row(tool, record, others):
    assert read(tool, record) == {"text": TEXT, "spans": SPANS, **others}


@pytest.mark.parametrize(
    ("tool", "record", "row"),
    [
        ("doccano", {"text": TEXT, "label": []}, {"spans": []}),
        ("doccano", {"text": TEXT, "entities": [], "cats": []}, {"spans": []}),
        ("doccano", {"text": TEXT, "label": ["A"]}, {"label": "A"}),
        ("doccano", {"text": TEXT, "label": ["A", "B"]}, {"label": ["A", "B"]}),
        ("label_studio", task(), {"spans": []}),
        ("label_studio", task(choices("A")), {"spans": [], "intent": "A"}),
        ("label_studio", minimal(intent="A"), {"spans": [], "intent": "A"}),
        ("prodigy", {"text": TEXT, "answer": "accept"}, {"spans": []}),
        ("prodigy", {"text": TEXT, "spans": [], "answer": "accept"}, {"spans": []}),
        ("prodigy", {"text": TEXT, "label": "A", "answer": "accept"}, {"label": "A"}),
        ("prodigy", {"text": TEXT, "accept": ["A", "B"], "options": [], "answer": "accept"}, {"accept": ["A", "B"]}),
        ("prodigy", {"text": TEXT, "accept": ["A"], "config": {"choice_style": "multiple"}}, {"accept": ["A"]}),
        ("prodigy", {"text": TEXT, "accept": [], "config": {"choice_style": "multiple"}}, {"accept": []}),
        ("prodigy", {"text": TEXT, "accept": [], "config": {"choice_style": "single"}}, {"accept": None}),
        ("spacy", [TEXT, {"entities": []}], {"spans": []}),
        ("spacy", {"text": TEXT, "cats": {"A": 0, "B": 1}}, {"cats": ["B"]}),
    ],
)
def test_empty_spans_and_missing_spans_are_distinguished(tool, record, row):
    assert read(tool, record) == {"text": TEXT, **row}


@pytest.mark.parametrize(
    ("tool", "record"),
    [
        ("label_studio", task(*RESULTS, was_cancelled=True)),
        ("label_studio", {"data": {"text": TEXT}, "annotations": []}),
        ("label_studio", {**minimal(), "annotation_id": None}),
        ("prodigy", {"text": TEXT, "spans": SPANS, "answer": "reject"}),
        ("prodigy", {"text": TEXT, "spans": SPANS, "answer": "ignore"}),
        ("prodigy", {"text": TEXT, "label": "A", "answer": "reject"}),
    ],
)
def test_rejected_and_skipped_records_give_no_row(tool, record):
    assert read(tool, record) is None


def several(*annotations):
    found = [annotation for record in annotations for annotation in record["annotations"]]
    return {"data": {"text": TEXT}, "annotations": found}


def test_a_canceled_annotation_besides_another_is_ignored():
    record = several(task(labels(0, 4, "LOC"), was_cancelled=True), task(*RESULTS))
    assert read("label_studio", record) == {"text": TEXT, "spans": SPANS}


def test_several_annotations_of_one_task_are_refused_with_their_names():
    message = r"export\.jsonl:3: expected one annotation .* found 2: 7 by 1, 9 by 'x@y\.org'\. Keep one per task"
    with pytest.raises(ValueError, match=message):
        read("label_studio", several(task(*RESULTS), task(*RESULTS, id=9, completed_by="x@y.org")))


def test_the_text_of_a_span_checks_its_offsets():
    record = task(labels(1, 5, "PER", text="Anna"))
    record["data"]["text"] = "😀Anna is in"
    row = read("label_studio", record)
    assert read_spans(row["text"], split_words(row["text"]), row["spans"], PLACE).tags == ["O", "B-PER", "O", "O"]
    record["annotations"][0]["result"] = [labels(2, 6, "PER", text="Anna")]
    row = read("label_studio", record)
    with pytest.raises(ValueError, match=r"'nna ' says that its text is 'Anna'\. The offsets seem to count UTF-16"):
        read_spans(row["text"], split_words(row["text"]), row["spans"], PLACE)


def test_several_labels_of_one_region_are_left_to_the_check_for_overlaps():
    row = read("label_studio", task(labels(0, 4, "PER", labels=["PER", "LOC"])))
    assert [span["label"] for span in row["spans"]] == ["PER", "LOC"]
    with pytest.raises(ValueError, match=r"span 1 .* and span 0 .* overlap"):
        read_spans(row["text"], split_words(row["text"]), row["spans"], PLACE)


@pytest.mark.parametrize("tool", ANNOTATION_TOOLS)
@pytest.mark.parametrize("record", [None, "text", 3, [], [TEXT], [TEXT, LISTS], [TEXT, {}, {}], {}])
def test_invalid_records_are_refused(tool, record):
    with pytest.raises(ValueError, match=r"^export\.jsonl:3: .*(expected|must be) .*(found|unknown key) "):
        read(tool, record)


@pytest.mark.parametrize(
    ("tool", "record", "message"),
    [
        ("doccano", {"txt": TEXT, "label": []}, "expected the key 'text' or 'data'; unknown key 'text'.*mean 'txt'"),
        ("doccano", {"text": 3, "label": []}, "'text' must be a string, found 3"),
        ("doccano", {"text": TEXT, "labell": []}, "expected the key 'label' or .*unknown key 'label'.*mean 'labell'"),
        ("doccano", {"text": TEXT, "label": "A"}, "'label': expected a list, found 'A'"),
        ("doccano", {"text": TEXT, "label": [3.5]}, r"'label': expected the name of a class, found 3\.5"),
        ("doccano", {"text": TEXT, "label": [[0, 4]]}, r"'label': span 0: expected .*, found \[0, 4\]"),
        (
            "doccano",
            {"text": TEXT, "label": LISTS, "entities": LISTS},
            "one list of spans, found .*'label', 'entities'",
        ),
        ("label_studio", {"data": TEXT, "annotations": []}, "'data': expected the fields of the task, .*found 'Anna"),
        ("label_studio", {"data": {}, "annotations": {}}, "'annotations': expected a list, found {}"),
        ("label_studio", {"data": {}, "annotations": [3]}, "annotation 0: expected an annotation, .*found 3"),
        (
            "label_studio",
            {**task(), "data": {"a": "", "b": ""}},
            "'data': expected the text under 'text'.*found 'a', 'b'",
        ),
        ("label_studio", task(result=None), "'result': expected a list, found None"),
        ("label_studio", task(3), "result 0: expected a result, .*found 3"),
        ("label_studio", task({"type": "labels"}), "result 0: expected a value, .*found None"),
        ("label_studio", task(labels(0, 4, "X", labels=[])), "result 0: expected at least one label, found none"),
        ("label_studio", task(labels(0, 4, "X", labels=None)), "result 0: 'labels': expected a list, found None"),
        ("label_studio", task(labels(0, 4.5, "X")), r"result 0: span 0: the end must be a whole number, found 4\.5"),
        ("label_studio", task(labels("/p[1]", 4, "X")), "result 0: span 0: the start must be a whole number"),
        ("label_studio", task({"type": "hypertextlabels"}), "result 0: expected spans of plain .*'hypertextlabels'"),
        ("label_studio", task(choices(None)), "result 0: 'choices': expected the name of a class, found None"),
        (
            "label_studio",
            task(choices("A"), choices("B")),
            "result 1: expected a unique name per control, found 'intent'",
        ),
        (
            "label_studio",
            task(choices("A", control="text")),
            "result 0: expected a unique name per control, found 'text'",
        ),
        (
            "label_studio",
            task(*RESULTS, labels(5, 7, "X", "pos")),
            "spans of one control, found 'ner', 'pos'; use one",
        ),
        ("label_studio", {"text": TEXT, "ner": []}, "expected the key 'annotations' or 'annotation_id'"),
        ("label_studio", minimal(ner=[{"start": 0, "hypertextlabels": ["X"]}]), "'ner': expected spans of plain text"),
        ("label_studio", minimal(ner=[{"start": 0, "labels": ["X"]}]), "'ner': span 0: .* found no 'end'"),
        ("prodigy", {"text": TEXT, "answer": "accepted"}, "unknown answer 'accepted'. Did you mean 'accept'"),
        ("prodigy", {"text": TEXT, "spans": "x"}, "'spans': expected a list, found 'x'"),
        ("prodigy", {"text": TEXT, "spans": [{"start": 0, "end": 4}]}, "'spans': span 0: .* found no 'label'"),
        ("prodigy", {"text": TEXT, "accept": "A"}, "'accept': expected a list, found 'A'"),
        ("prodigy", {"text": TEXT, "label": ["A"]}, r"'label': expected the name of a class, found \['A'\]"),
        ("prodigy", {"text": TEXT, "accept": ["A"], "config": 3}, "'config': expected the settings .*found 3"),
        ("prodigy", {"image": "x.png"}, "expected the key 'text'; unknown key 'text'"),
        ("spacy", [3, {"entities": []}], "'text' must be a string, found 3"),
        ("spacy", {"text": TEXT}, "expected the key 'entities' or 'cats'"),
        ("spacy", [TEXT, {"entities": ["U-PER", "O"]}], "'entities': span 0: expected .*, found 'U-PER'"),
        ("spacy", [TEXT, {"cats": {"A": 0.7}}], r"'cats': expected 0 or 1 for 'A', found 0\.7"),
        ("spacy", [TEXT, {"cats": ["A"]}], "'cats': expected classes with 0 or 1, .*found"),
    ],
)
def test_other_forms_are_refused_with_the_expected_form(tool, record, message):
    with pytest.raises(ValueError, match=rf"^export\.jsonl:3: .*{message}"):
        read(tool, record)
