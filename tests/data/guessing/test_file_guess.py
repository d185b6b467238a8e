"""What is guessed of a file is what a person would say who looks at it, and trains."""

import json

import openpyxl
import pytest

from hf_multitask import prepare_datasets
from hf_multitask.data import DataConfig
from hf_multitask.data.guessing import guess_columns, guess_file, guess_form
from hf_multitask.data.guessing.file_guess import task_name
from hf_multitask.data.readers.reading_options import ReadingOptions
from hf_multitask.models import TaskConfig

TEXTS = [f"play {name} again" for name in ("jazz", "rock", "soul", "funk", "blues", "folk")]
LABELS = ["music", "other"] * 3


def table(delimiter=",", header=("text", "label"), texts=TEXTS):
    lines = [delimiter.join(header)] if header else []
    return "\n".join([*lines, *(delimiter.join(row) for row in zip(texts, LABELS, strict=True))]) + "\n"


def roles(guess):
    return {column.name: column.role for column in guess.columns}


def prepare(path, guess, tokenizer):
    """Prepare the rows as a run does, with nothing but the guess."""
    tasks = [TaskConfig.from_dict(task) for task in guess.tasks]
    return prepare_datasets([DataConfig(train=str(path), **guess.data)], tokenizer, tasks)


# The form


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("cp1252", "cp1252"), ("utf-16", "utf-16")],
)
def test_encodings(encoding, expected, write, tokenizer):
    path = write("rows.csv", table(texts=["schöne Grüße €", *TEXTS[1:]]).encode(encoding))
    guess = guess_file(path)
    assert guess.form.options.encoding == expected
    assert guess.rows[0]["text"] == "schöne Grüße €"
    assert len(prepare(path, guess, tokenizer)["train"]) == 6


def test_bytes_that_windows_does_not_have_are_latin_1(write):
    form = guess_form(write("rows.csv", b"text,label\na b,\x81\n"))
    assert form.options.encoding == "latin-1"
    assert form.reasons["encoding"] == "line 2 is neither UTF-8 nor cp1252"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter, write, tokenizer):
    texts = ["please, play jazz", *TEXTS[1:]] if delimiter != "," else TEXTS
    path = write("rows.csv", table(delimiter, texts=texts))
    guess = guess_file(path)
    assert guess.form.options.delimiter == delimiter
    assert guess.data == ({} if delimiter == "," else {"delimiter": delimiter})
    assert prepare(path, guess, tokenizer).tasks[0].labels == ["music", "other"]


def test_the_delimiter_with_the_most_cells_is_guessed(write):
    lines = [f"please, play {i};{'ab'[i % 2]};{i}" for i in range(6)]
    guess = guess_file(write("rows.csv", "\n".join(lines) + "\n"))
    assert guess.form.options.delimiter == ";"
    assert guess.form.reasons["delimiter"] == "it separates each of the first lines into 3 cells"
    assert guess.rows[0]["0"] == "please, play 0"


@pytest.mark.parametrize(
    ("lines", "header", "reason"),
    [
        (["text,label", "a b,x", "c d,y"], True, "'text' in line 1 is a usual name"),
        (["Was,Wie", "a b,x", "c d,y"], True, "occur nowhere below"),
        (
            ["please play some jazz now,x", "c d,y"],
            False,
            "'please play some jazz now' in line 1 is longer than a name",
        ),
        (["play jazz,x", "more jazz,y", "less jazz,x"], False, "'x' in line 1 occurs again below it"),
        (["play jazz,3", "more jazz,4"], False, "'3' in line 1 is a number"),
        (["a b,a b", "c d,y"], False, "occurs twice"),
    ],
)
def test_headers(lines, header, reason, write):
    form = guess_form(write("rows.csv", "\n".join(lines) + "\n"))
    assert form.options.header is header
    assert reason in form.reasons["header"]
    assert form.first_lines[0] == lines[0].split(",")


def test_what_is_given_is_not_guessed(write):
    path = write("rows.csv", table(";", header=None))
    guess = guess_file(path, ReadingOptions(header=True))
    assert guess.form.options.header is True
    assert "header" not in guess.form.reasons
    assert list(guess.rows[0]) == ["play jazz again", "music"]


def test_a_table_without_a_header_trains(write, tokenizer):
    path = write("rows.csv", table(header=None))
    guess = guess_file(path)
    assert guess.data == {"header": False, "columns": {"text": 0}}
    assert guess.tasks == [{"name": "label", "type": "sequence_classification", "column": "1"}]
    assert len(prepare(path, guess, tokenizer)["train"]) == 6


def test_an_excel_file_trains(tmp_path, tokenizer):
    workbook = openpyxl.Workbook()
    workbook.active.append(["Nachricht", "Thema", "Datum"])
    for text, label in zip(TEXTS, LABELS, strict=True):
        workbook.active.append([text, label, "2024-01-02"])
    workbook.create_sheet("Notes")
    path = tmp_path / "rows.xlsx"
    workbook.save(path)
    guess = guess_file(path)
    assert guess.form.sheets == ["Sheet", "Notes"]
    assert guess.data == {"sheet": "Sheet", "columns": {"text": "Nachricht"}}
    assert roles(guess) == {"Nachricht": "text", "Thema": "label", "Datum": "ignored"}
    assert len(prepare(path, guess, tokenizer)["train"]) == 6


def test_a_broken_row_ends_the_rows_that_are_looked_at(write):
    path = write("rows.csv", table() + "a,b,c\n")
    assert len(guess_file(path).rows) == 6
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: expected a JSON object"):
        guess_file(write("rows.jsonl", "no json\n"))
    with pytest.raises(ValueError, match="expected at least one row, found none"):
        guess_file(write("empty.jsonl", ""))
    with pytest.raises(ValueError, match="the columns of the format 'conll' are not guessed"):
        guess_file(write("a.conll", "a O\n"))


# The columns


def test_columns_are_what_a_person_would_say():
    rows = [
        {
            "id": str(i),
            "utterance": f"play some jazz {i}",
            "intent": ["Play", "Stop"][i % 2],
            "moods": ["calm|happy", "sad", "happy|sad"][i % 3],
            "stars": i % 5,
            "price": f"{i / 7:.3f}",
            "when": "2024-01-02",
            "lists": ["a", "b"],
            "spans": [{"start": 0, "end": 4, "label": "verb"}],
            "same": "no",
            "empty": None,
        }
        for i in range(20)
    ]
    guesses = {guess.name: guess for guess in guess_columns(rows)}
    assert {name: guess.role for name, guess in guesses.items()} == {
        "id": "ignored",
        "utterance": "text",
        "intent": "label",
        "moods": "labels",
        "stars": "label",
        "price": "number",
        "when": "ignored",
        "lists": "labels",
        "spans": "spans",
        "same": "ignored",
        "empty": "ignored",
    }
    assert guesses["moods"].separator == "|"
    assert guesses["utterance"].examples == ("play some jazz 0", "play some jazz 1", "play some jazz 2")
    assert guesses["id"].reason == "it has 20 different values in 20 rows, too many for labels"


@pytest.mark.parametrize("column", ["tokens", "text"])
@pytest.mark.parametrize("as_text", [True, False])
def test_tags_belong_to_words(column, as_text):
    rows = [{column: ["in", "Paris"], "ner": ["O", "B-LOC"]}, {column: ["hello"], "ner": ["O"]}]
    if as_text:
        rows = [{name: " ".join(value) for name, value in row.items()} for row in rows]
    elif column == "text":
        return
    assert [guess.role for guess in guess_columns(rows)] == ["tokens", "tags"]


def test_given_roles_are_kept():
    rows = [{"a": f"text {i}", "b": f"other text {i}", "c": "xy"[i % 2]} for i in range(6)]
    assert [guess.role for guess in guess_columns(rows)] == ["ignored", "text", "label"]
    assert [guess.role for guess in guess_columns(rows, {"a": "text"})] == ["text", "ignored", "label"]
    assert [guess.role for guess in guess_columns(rows, {"c": "ignored"})] == ["ignored", "text", "ignored"]


def test_a_column_that_is_not_what_its_name_says(write, tokenizer):
    rows = [{"text": i, "utterance": text, "label": label} for i, (text, label) in enumerate(zip(TEXTS, LABELS))]  # noqa: B905
    path = write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    guess = guess_file(path, roles={"utterance": "text", "text": "ignored"})
    assert guess.data["columns"] == {"text": "utterance", "other_text": "text"}
    assert len(prepare(path, guess, tokenizer)["train"]) == 6
    with pytest.raises(ValueError, match=r"column 'utterance': unknown role 'txt'. Did you mean 'text'"):
        guess_file(path, roles={"utterance": "txt"})


def test_several_labels_in_a_cell_train(write, tokenizer):
    moods = ["calm|happy", "sad", "happy|sad"] * 2
    lines = [f"{text},{mood},{label}" for text, mood, label in zip(TEXTS, moods, LABELS, strict=True)]
    path = write("rows.csv", "text,moods,kind\n" + "\n".join(lines) + "\n")
    guess = guess_file(path)
    assert guess.data == {"label_separator": "|"}
    moods, kind = prepare(path, guess, tokenizer).tasks
    assert moods.labels == ["calm", "happy", "sad"]
    assert kind.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("intent", "intent"),
        ("my label", "my_label"),
        ("test", "test_label"),
        ("keys", "keys_label"),
        ("1", "label"),
        ("Größe!", "Gr_e"),
        ("日本", "label"),
        ("1st", "_1st"),
        ("<b>", "b"),
    ],
)
def test_tasks_are_named_after_columns(column, name):
    assert task_name(column) == name
    TaskConfig(name, "sequence_classification")


def test_two_columns_never_have_one_task():
    rows = [{"text": f"text {i}", "a b": "xy"[i % 2], "a-b": "xy"[i % 2]} for i in range(6)]
    from hf_multitask.data.guessing import FileForm, FileGuess

    guess = FileGuess(FileForm("jsonl", ReadingOptions()), guess_columns(rows), rows)
    assert [task["name"] for task in guess.tasks] == ["a_b", "a_b_2"]
