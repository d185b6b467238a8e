"""Files of rows in every format, and the locations of errors in them."""

import gzip
import json

import datasets
import pytest

from hf_multitask import TaskConfig, prepare_datasets
from tests.data.reading import read_rows
from tests.tiny import ROWS

NER = {"tokens": 0, "ner": 1}
CONLL = "-DOCSTART-\t-X-\n\nparis\tB-place\n#hashtag\tO\n\t\n# a comment\nthe\tO\nmill\tO"


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def test_a_table_of_texts_and_labels(write):
    rows = read_rows(write("a.csv", 'text,intent\n"play, now\nplease",PlayMusic\nrain?,\n'))
    assert rows.rows == [{"text": "play, now\nplease", "intent": "PlayMusic"}, {"text": "rain?", "intent": None}]
    assert [rows.place(i).rsplit(":", 1)[1] for i in range(2)] == ["2", "4"]


def test_a_table_with_tabs_and_other_names(write):
    columns = {"text": "utterance", "intent": "label"}
    rows = read_rows(write("a.tsv", "label\tutterance\tid\nRateBook\tfive stars\t1\n"), columns=columns)
    assert rows.rows == [{"intent": "RateBook", "text": "five stars", "id": "1"}]


def test_a_table_with_a_word_per_line(write):
    text = "Sentence #,Word,Tag\n1,new,B-place\n,york,I-place\n2,rain,O\n"
    columns = {"row": "Sentence #", "tokens": "Word", "ner": "Tag"}
    rows = read_rows(write("a.csv", text), columns=columns)
    assert rows.rows == [
        {"tokens": ["new", "york"], "ner": ["B-place", "I-place"]},
        {"tokens": ["rain"], "ner": ["O"]},
    ]
    assert rows.place(0, 1).endswith("a.csv:3")


def test_columns_of_words_and_tags(write):
    rows = read_rows(write("a.conll", CONLL), columns=NER)
    assert rows.rows == [
        {"tokens": ["paris", "#hashtag"], "ner": ["B-place", "O"]},
        {"tokens": ["the", "mill"], "ner": ["O", "O"]},
    ]
    assert [rows.place(0), rows.place(1), rows.place(1, 1)] == [f"{rows.source}:{line}" for line in (3, 7, 8)]


def test_columns_with_spaces_and_more_columns_than_needed(write):
    text = "# a comment\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n# SYM O O\n"
    rows = read_rows(write("a.txt", text), "train", "conll", {"tokens": 0, "ner": 3})
    assert rows.rows == [{"tokens": ["EU", "rejects", "#"], "ner": ["I-ORG", "O", "O"]}]


@pytest.mark.parametrize(
    "content",
    [
        CONLL.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + CONLL.encode(),
        CONLL + "\n\n\n \t \n",
        CONLL.replace("mill", "mi\u2028ll\u0085").replace("the", "\u200b"),
    ],
    ids=["CRLF", "BOM", "blank lines at the end", "line separators in words"],
)
def test_quirks_of_files_change_no_row(content, write):
    rows = read_rows(write("a.conll", content), columns=NER)
    assert [len(row["tokens"]) for row in rows.rows] == [2, 2]
    assert rows.rows[0]["tokens"] == ["paris", "#hashtag"]


def test_parquet_with_named_labels(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "intent": datasets.ClassLabel(names=["a", "b"])})
    dataset = datasets.Dataset.from_dict({"text": ["x", "y"], "intent": [1, -1]}, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert rows.rows == [{"text": "x", "intent": "b"}, {"text": "y", "intent": None}]


@pytest.mark.parametrize("kind", ["parquet", "folder", "dataset", "stream"])
def test_declared_label_names_give_the_labels_in_their_order(kind, tokenizer, tmp_path):
    names = {"intent": ["z", "unused", "a"], "ner": ["O", "B-b", "I-b", "B-a", "I-a"]}
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "intent": datasets.ClassLabel(names=names["intent"]),
            "ner": datasets.List(datasets.ClassLabel(names=names["ner"])),
        }
    )
    rows = {"words": [["in", "paris"], ["now"]], "intent": [2, 0], "ner": [[0, 1], [0]]}
    source = datasets.Dataset.from_dict(rows, features=features)
    if kind == "parquet":
        source.to_parquet(tmp_path / "a.parquet")
        source = tmp_path / "a.parquet"
    elif kind == "folder":
        source.save_to_disk(tmp_path / "a")
        source = tmp_path / "a"
    elif kind == "stream":
        source = source.to_iterable_dataset()
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("ner", "token_classification")]
    data = prepare_datasets({"train": source}, tokenizer, tasks, columns={"tokens": "words"})
    assert [task.labels for task in data.tasks] == [names["intent"], ["O", "B-a", "I-a", "B-b", "I-b"]]
    assert [row["labels"] for row in data["train"]] == [{"intent": 2, "ner": [0, 3]}, {"intent": 0, "ner": [0]}]


def test_a_folder_of_save_to_disk(tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset).save_to_disk(tmp_path / "several")
    assert read_rows(tmp_path / "one").rows == ROWS
    assert read_rows(tmp_path / "several" / "train").rows == ROWS
    with pytest.raises(ValueError, match=r"several: contains the splits train; name one, such as .*several/train"):
        read_rows(tmp_path / "several")


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_list_of_json_objects(name, write):
    assert read_rows(write(name, json.dumps(ROWS, indent=1))).rows == ROWS


SPANS = [{"start": 5, "end": 10, "label": "place"}]
EXPORTS = {
    "doccano": ("a.jsonl", json.dumps({"id": 1, "text": "from paris", "label": [[5, 10, "place"]]})),
    "prodigy": (
        "a.jsonl",
        "\n".join(
            json.dumps({"text": "from paris", "spans": SPANS, "answer": answer}) for answer in ("accept", "reject")
        ),
    ),
    "spacy": ("a.json", json.dumps([["from paris", {"entities": [[5, 10, "place"]]}]])),
    "label_studio": (
        "a.json.gz",
        json.dumps(
            [
                {
                    "data": {"text": "from paris"},
                    "annotations": [
                        {
                            "was_cancelled": False,
                            "result": [
                                {
                                    "type": "labels",
                                    "from_name": "label",
                                    "to_name": "text",
                                    "value": {"start": 5, "end": 10, "text": "paris", "labels": ["place"]},
                                }
                            ],
                        }
                    ],
                }
            ]
        ),
    ),
}


@pytest.mark.parametrize("tool", EXPORTS)
def test_exports_of_annotation_tools_become_tagged_words(tool, write, tokenizer, caplog):
    name, content = EXPORTS[tool]
    task = TaskConfig("ner", "token_classification", column="spans")
    data = prepare_datasets({"train": write(name, content)}, tokenizer, [task], format=tool)
    (row,) = data["train"]
    assert [data.tasks[0].labels[tag] for tag in row["labels"]["ner"]] == ["O", "B-place"]
    assert ("1 records that the annotator rejected" in caplog.text) == (tool == "prodigy")


def test_compressed_lines(write):
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert read_rows(write("a.jsonl.gz", text)).rows == ROWS


@pytest.mark.parametrize(
    ("name", "content", "given", "message"),
    [
        ("a.csv", "text,intent\nrain,x\nsnow\n", {}, r"a\.csv:3: expected 2 cells \(text, intent\), found 1"),
        ("a.csv", "text,text\na,b\n", {}, r"a\.csv:1: the header names 'text' more than once"),
        ("a.csv", 'text,intent\nrain,x\n"snow,y\n', {}, r"a\.csv:3: a cell begins with a quote that is never closed"),
        ("a.csv", "text,intent\nrain,x\n", {"columns": {"text": "txt"}}, r"unknown column 'txt'. Did you mean 'text'"),
        ("a.csv", b"text\n\xff\n", {}, r"a\.csv:2: expected UTF-8, found the byte 0xff"),
        ("a.csv", "text,intent\n", {"columns": {"text": "txt"}}, r"columns\.text: unknown column 'txt'"),
        ("a.csv", "row,word\n1,a\n", {"columns": {"row": "row"}}, r"a\.csv: columns\.row needs columns\.tokens"),
        ("a.conll", "a\tO\nb\n", {"columns": NER}, r"a\.conll:2: expected at least 2 columns, found 1: 'b'"),
        ("a.conll", "a\tO\n", {}, r"needs `columns`, such as \{tokens: 0, ner: 1\}; its first line is 'a\\tO'"),
        ("a.conll", "a\tO\n", {"columns": {"tokens": "word"}}, r"columns.tokens: expected the number of a column"),
        ("a.json", '{"text": "x"}', {}, r"expected a list of JSON objects"),
        ("a.json", '[{"text": "x"},\n{]', {}, r"a\.json:2: expected JSON"),
        ("a.dat", "x", {}, r"unknown extension '\.dat'; give `format`: jsonl, json, csv"),
        ("a.dat", "x", {"format": "jsonline"}, r"unknown format 'jsonline'. Did you mean 'jsonl'"),
        ("a.parquet", b"PAR1 cut short", {}, r"a\.parquet: expected a whole Parquet file"),
    ],
)
def test_errors_name_the_problem_in_a_file(name, content, given, message, write):
    with pytest.raises(ValueError, match=message):
        read_rows(write(name, content), **given)


def test_a_file_without_rows_is_refused(write, tokenizer):
    task = TaskConfig("ner", "token_classification")
    with pytest.raises(ValueError, match=r"a\.conll: expected at least one row, found none"):
        prepare_datasets({"train": write("a.conll", "\n\n")}, tokenizer, [task], columns=NER)


def test_a_truncated_compressed_file_is_refused(write, tmp_path):
    whole = write("a.jsonl.gz", "".join(json.dumps(row) + "\n" for row in ROWS)).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: expected a whole gzip file"):
        read_rows(tmp_path / "cut.jsonl.gz")


def test_an_invalid_tag_is_named_with_the_line_of_its_word(write, tokenizer):
    path = write("a.conll", "rain\tO\nin\tB-x\nparis\tplace\n")
    task = TaskConfig("ner", "token_classification")
    with pytest.raises(ValueError, match=r"a\.conll:3: column 'ner': the tags fit none of the schemes"):
        prepare_datasets({"train": path}, tokenizer, [task], columns=NER)
    task = TaskConfig("ner", "token_classification", tag_scheme="BIO")
    with pytest.raises(
        ValueError, match=r"a\.conll:3: column 'ner': 'place' \(word 2, 'paris'\) is not a tag of IOB2"
    ):
        prepare_datasets({"train": path}, tokenizer, [task], columns=NER)


def test_numbers_of_a_table_are_read_for_a_regression(write, tokenizer):
    task = TaskConfig("stars", "sequence_classification", problem_type="regression")
    data = prepare_datasets({"train": write("a.csv", "text,stars\ngood,4.5\nbad,1\nodd,\n")}, tokenizer, [task])
    assert [row["labels"]["stars"][0] for row in data["train"]][:2] == [4.5, 1.0]
    with pytest.raises(ValueError, match=r"b\.csv:2: column 'stars': expected a number, found 'many'"):
        prepare_datasets({"train": write("b.csv", "text,stars\ngood,many\n")}, tokenizer, [task])


@pytest.mark.realdata
def test_the_published_files_are_read_completely(real_data):
    for split, number in (("train", 3394), ("validation", 1009), ("test", 1287)):
        path = real_data / "wnut17" / f"{split}.conll"
        rows = read_rows(path, columns=NER).rows
        assert len(rows) == number
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        assert sum(len(row["tokens"]) for row in rows) == len(lines)
    for split, number in (("train", 7500), ("validation", 3000), ("test", 4500)):
        rows = read_rows(real_data / "clinc150" / f"{split}.csv").rows
        assert len(rows) == number
        assert all(row["text"] and row["intent"] for row in rows)
