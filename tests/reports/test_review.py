"""Files for annotation tools are read back by our own readers with the given labels."""

import json

import pytest

from hf_multitask import TaskConfig
from hf_multitask.data.readers.annotation_files import read_annotations
from hf_multitask.reports.review import Review, check_tool
from tests.reports.answers import (
    INTENT,
    SLOT_ANSWERS,
    SLOTS,
    TEXTS,
    TOPICS,
    label_answers,
    label_set_answers,
    result,
    tag_answers,
)

# Row 3 has no intent.
INTENT_ANSWERS = label_answers([1, 1, 2, 0], [0.6, 0.7, 0.97, 0.8], [0, 1, 0, -100])
TOPIC_ANSWERS = label_set_answers(
    [[0.9, 0.2, 0.1], [0.4, 0.9, 0.1], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]], [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
)
SPANS = {
    0: [{"start": 5, "end": 16, "label": "artist"}],
    1: [{"start": 9, "end": 17, "label": "place"}],
    2: [{"start": 5, "end": 10, "label": "place"}],
    3: [],
}


@pytest.fixture
def review():
    return Review([INTENT, SLOTS], result(intent=INTENT_ANSWERS, slots=tag_answers(*SLOT_ANSWERS)))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_back(path, tool):
    return [located.row for located in read_annotations(path, tool, {})]


def without_texts(spans):
    return [{key: span[key] for key in ("start", "end", "label")} for span in spans]


def test_a_line_per_mistake_of_all_tasks_the_surest_first(review, tmp_path):
    path = tmp_path / "mistakes.jsonl"
    assert review.write_mistakes(path) == 6
    found = lines(path)
    assert [(one["row"], one["task"], one["kind"]) for one in found] == [
        (3, "slots", "missed"),
        (3, "intent", "wrong label"),
        (2, "slots", "wrong boundaries"),
        (1, "slots", "wrong type"),
        (1, "intent", "wrong label"),
        (4, "slots", "spurious"),
    ]
    assert found[0] == {
        "row": 3,
        "task": "slots",
        "kind": "missed",
        "score": pytest.approx(0.99),
        "given": {"label": "place", "start": 5, "end": 10},
        "predicted": None,
        "text": "book Paris",
    }
    assert found[1]["predicted"] == {"label": "Book", "score": pytest.approx(0.97)}


def test_label_studio(review, tmp_path):
    path = tmp_path / "mistakes.json"
    review.write_mistakes(path, "label_studio")
    records = json.loads(path.read_text(encoding="utf-8"))
    assert [record["data"]["row"] for record in records] == [3, 2, 1, 4]
    for record in records:
        assert record.keys() == {"data", "annotations", "predictions"}
        (prediction,) = record["predictions"]
        assert 0 <= prediction["score"] <= 1
        for one in [*record["annotations"][0]["result"], *prediction["result"]]:
            assert {"id", "from_name", "to_name", "type", "value"} <= one.keys()
            if one["type"] == "labels":
                assert record["data"]["text"][one["value"]["start"] : one["value"]["end"]] == one["value"]["text"]
    assert records[0]["predictions"][0]["result"] == [
        {
            "id": "intent",
            "from_name": "intent",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": ["Book"]},
            "score": pytest.approx(0.97),
        }
    ]
    rows = read_back(path, "label_studio")
    assert [row["text"] for row in rows] == [TEXTS[i] for i in (2, 1, 0, 3)]
    assert [row.get("intent") for row in rows] == ["Play", "Rain", "Play", None]
    assert [without_texts(row["spans"]) for row in rows] == [SPANS[i] for i in (2, 1, 0, 3)]


@pytest.mark.parametrize(("tool", "label"), [("doccano", "cats"), ("prodigy", "accept")])
def test_doccano_and_prodigy(review, tmp_path, tool, label):
    path = tmp_path / "mistakes.jsonl"
    review.write_mistakes(path, tool)
    rows = read_back(path, tool)
    assert [row["text"] for row in rows] == [TEXTS[i] for i in (2, 1, 0, 3)]
    assert [row.get(label) for row in rows] == ["Play", "Rain", "Play", None]
    assert [without_texts(row["spans"]) for row in rows] == [SPANS[i] for i in (2, 1, 0, 3)]
    facts = [record.get("meta", record) for record in lines(path)]
    assert [record["row"] for record in facts] == [3, 2, 1, 4]
    assert facts[0]["score"] == pytest.approx(0.99)


@pytest.mark.parametrize(("tool", "key"), [("doccano", "label"), ("prodigy", "accept"), ("label_studio", "topics")])
def test_several_labels_come_back_as_lists(tmp_path, tool, key):
    path = tmp_path / "mistakes"
    Review([TOPICS], result(topics=TOPIC_ANSWERS)).write_mistakes(path, tool)
    rows = {row["text"]: row for row in read_back(path, tool)}
    assert rows[TEXTS[0]][key] == ["music", "weather"]


@pytest.mark.parametrize("tool", ["doccano", "prodigy", "label_studio"])
def test_entities_alone_come_back(tmp_path, tool):
    path = tmp_path / "mistakes"
    Review([SLOTS], result(slots=tag_answers(*SLOT_ANSWERS))).write_mistakes(path, tool)
    rows = {row["text"]: row for row in read_back(path, tool)}
    assert {text: without_texts(row["spans"]) for text, row in rows.items()} == {
        text: SPANS[i] for i, text in enumerate(TEXTS)
    }


def test_a_review_without_mistakes_is_an_empty_file(tmp_path):
    right = Review([INTENT], result(intent=label_answers([0, 1, 2, 0], [0.9] * 4, [0, 1, 2, 0])))
    assert right.mistakes() == []
    for tool in (None, "prodigy"):
        assert right.write_mistakes(tmp_path / "none", tool) == 0
        assert (tmp_path / "none").read_text() == ""
    right.write_mistakes(tmp_path / "none", "label_studio")
    assert json.loads((tmp_path / "none").read_text()) == []


def test_tools_and_tasks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"annotation tool 'labelstudio'.*label_studio"):
        check_tool("labelstudio")
    with pytest.raises(ValueError, match=r"prodigy: a record has the labels of one text task, found intent, topics"):
        check_tool("prodigy", [INTENT, TOPICS])
    check_tool("label_studio", [INTENT, TOPICS, SLOTS])
    with pytest.raises(ValueError, match="one token task, found slots, more"):
        check_tool("label_studio", [SLOTS, TaskConfig("more", "token_classification", labels=["O", "B-x", "I-x"])])
    check_tool(None, [INTENT, TOPICS])
