"""Texts are read from lines and files, predicted, compared, shown and written."""

import csv
import json

import pytest

from hf_multitask import TaskConfig
from hf_multitask.app import try_texts
from hf_multitask.app.answers import ModelAnswers, describe, differing_tasks
from hf_multitask.app.answers_view import show_many, show_one
from hf_multitask.app.markup import bar, marked
from hf_multitask.app.mistakes_view import show_mistakes, worst_text
from hf_multitask.app.model_cache import ModelCache, Predictions
from hf_multitask.app.predictions_file import write_predictions
from hf_multitask.app.try_texts import file_rows, pasted_rows
from hf_multitask.models.text_inputs import TextInput
from hf_multitask.reports.page import Piece

EVIL = "<img src=x onerror=alert(1)>"
INTENT = TaskConfig(
    "intent", "sequence_classification", labels=["a", EVIL], problem_type="single_label_classification"
)
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place"])
MOODS = TaskConfig("moods", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification")
PRICE = TaskConfig("price", "sequence_classification", problem_type="regression")


def answers_of(name, rows, tasks=(INTENT, SLOTS)):
    texts = [TextInput(f"in Paris {EVIL} {i}", []) for i in range(len(rows))]
    return ModelAnswers(name, Predictions(tasks, texts, rows))


def row(label="a", score=0.5, entities=(("place", 3, 8),)):
    found = [{"label": kind, "start": a, "end": b, "text": "Paris", "score": 0.9} for kind, a, b in entities]
    return {"intent": {"label": label, "score": score}, "slots": {"entities": found}}


def test_an_answer_of_no_label_is_shown():
    def answers(label):
        value = {"label": label, "score": 0.5, "best_label": "a", "in_scope": 0.2}
        return [answers_of("m", [{"intent": value}], [INTENT])]

    scores = [answers_of("m", [{"intent": [{"label": "a", "score": 0.5}]}], [INTENT])]
    for label, shown in ((None, "none of these (nearest: a)"), ("oos", "oos (nearest: a)")):
        assert shown in show_one(answers(label), scores)
        assert shown in show_many(answers(label))
    assert "nearest" not in show_one(answers("a"), scores)


def test_texts_are_predicted_and_a_deleted_model_is_reported(save_model, app_config, tmp_path):
    cache, shares = ModelCache(), []
    folders = [save_model(app_config, tmp_path / name) for name in ("a", "b", "c")]
    for folder in folders:
        shares.clear()
        found = cache.predict(folder, [{"text": f"play jazz in paris {i}"} for i in range(300)], shares.append)
        assert [task.name for task in found.tasks] == ["intent", "slots"]
        assert len(found.texts) == len(found.rows) == 300
        assert shares == [256 / 300, 1.0]
        (scores,) = cache.score(folder, "play jazz in paris 7").rows
        best = [item["score"] for item in scores["intent"]]
        assert best == sorted(best, reverse=True)
        assert scores["intent"][0]["label"] == found.rows[7]["intent"]["label"]
    with pytest.raises(ValueError, match=r"^text 2: 'text' is empty"):
        cache.predict(folders[0], [{"text": "play"}, {"text": " "}])
    (folders[0] / "config.json").unlink()
    with pytest.raises(ValueError, match="a: the model's folder was moved or deleted"):
        cache.predict(folders[0], [{"text": "play"}])
    assert cache.predict(folders[1], [{"text": "play"}])


def test_lines_become_rows():
    assert pasted_rows(" play jazz \n\n<b>\n") == [{"text": "play jazz"}, {"text": "<b>"}]
    with pytest.raises(ValueError, match=r"^text: expected at least one text, found none: type a text"):
        pasted_rows(" \n ")


def test_files_become_rows(tmp_path, monkeypatch):
    def write(name, text, encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    assert file_rows(write("a.txt", "\ufeffone\n\ntwo\n")) == [{"text": "one"}, {"text": "two"}]
    (first, second) = file_rows(write("a.csv", "id,utterance\n1,play some jazz\n2,stop it now\n"))
    assert (first["text"], second["text"]) == ("play some jazz", "stop it now")
    assert file_rows(write("a.jsonl", '{"tokens": ["play", "jazz"]}\n')) == [{"tokens": ["play", "jazz"]}]
    with pytest.raises(ValueError, match=r"^a\.txt: expected UTF-8"):
        file_rows(write("a.txt", "Zürich", "latin-1"))
    with pytest.raises(ValueError, match=r"^b\.csv: expected a column 'text' or 'tokens', or another with texts"):
        file_rows(write("b.csv", "a,b\n1,2\n"))
    with pytest.raises(ValueError, match=r"^b\.jsonl:1: ") as raised:
        file_rows(write("b.jsonl", "no json\n"))
    assert str(tmp_path) not in str(raised.value)
    monkeypatch.setattr(try_texts, "MAX_TEXTS", 1)
    with pytest.raises(ValueError, match=r"at most 1 texts at a time\. For more, use hf-multitask predict"):
        pasted_rows("one\ntwo")


def test_predictions_are_described_in_words():
    assert describe(INTENT, {"label": "a", "score": 0.5}) == ("a", 0.5)
    assert describe(SLOTS, row()["slots"]).text == "Paris (place)"
    assert describe(SLOTS, {"entities": []}).text == "none"
    assert describe(MOODS, {"labels": ["x", "y"], "scores": [0.9, 0.8]}).text == "x, y"
    assert describe(PRICE, {"value": 1.23456}).text == "1.235"


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (row(score=0.99), set()),
        (row(label="b"), {"intent"}),
        (row(entities=()), {"slots"}),
        (row(entities=[("place", 0, 8)]), {"slots"}),
    ],
)
def test_differences_are_of_labels_not_of_scores(other, expected):
    assert differing_tasks([answers_of("one", [row()]), answers_of("two", [other])], 0) == expected
    assert differing_tasks([answers_of("one", [row()])], 0) == set()


def test_texts_that_two_models_see_differently_come_first():
    one, two = answers_of("one", [row(), row(), row()]), answers_of("two", [row(), row(), row(label=EVIL)])
    html = show_many([one, two])
    assert "The models differ on 1 of 3 texts" in html
    first = html.index("<tbody>")
    assert html.index("&gt; 2</td>") < html.index("&gt; 0</td>")
    assert html.count("differs</span>", first) == 2
    assert EVIL not in html


def test_nothing_that_a_text_or_a_label_says_is_live_html():
    scores = [{"intent": [{"label": EVIL, "score": 0.5}], "slots": row()["slots"]}]
    evil = row(label=EVIL, entities=[(EVIL, 3, 8)])
    html = show_one([answers_of(EVIL, [evil])], [answers_of(EVIL, scores)])
    mistake = {
        "text": f"{EVIL}\nx",
        "text_pair": None,
        "loss": 1.0,
        "lines": [{"name": EVIL, "pieces": [{"text": EVIL, "label": EVIL}]}],
    }
    task = {"task": EVIL, "split": "validation", "rows": 3, "wrong": 1, "mistakes": [mistake]}
    for text in (html, show_mistakes([task]), bar(EVIL, 0.5), marked([Piece(EVIL, EVIL)])):
        assert "<img" not in text
        assert "&lt;img" in text
    # What goes into the field of the try tab is one line, so that it is one text.
    assert worst_text([task]) == f"{EVIL} x"
    assert worst_text([]) == ""


def test_predictions_are_written_for_a_spreadsheet_and_for_programs(tmp_path):
    one, two = answers_of("one", [row(), row(label="b", score=0.25)]), answers_of("two", [row(), row(entities=())])
    table, lines = write_predictions(tmp_path, [one])
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert rows[1] == {
        "text": f"in Paris {EVIL} 1",
        "intent": "b",
        "intent score": "0.2500",
        "slots": "Paris (place)",
    }
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [
        {"text": f"in Paris {EVIL} {i}", **prediction} for i, prediction in enumerate(one.predictions.rows)
    ]
    assert write_predictions(tmp_path, [one]) == (table, lines)
    table, lines = write_predictions(tmp_path, [one, two])
    header = table.read_text(encoding="utf-8-sig").splitlines()[0]
    assert header == "text,one: intent,one: intent score,one: slots,two: intent,two: intent score,two: slots"
    assert json.loads(lines.read_text().splitlines()[1])["models"]["two"] == two.predictions.rows[1]
