"""Unusual and invalid input: errors say how to fix it, quirks change nothing, and losses are counted."""

import gzip
import json
import time

import datasets
import pytest

from hf_multitask import DataConfig, MultiTaskDataCollator, MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.data.labels.stratified_split import split_validation
from hf_multitask.data.readers.sources import load_hub_split
from tests.data.reading import read_rows
from tests.predictions import predict
from tests.tiny import ARCHITECTURES, ROWS, make_tokenizer

INTENT = TaskConfig("intent", "sequence_classification")
SLOTS = TaskConfig("slots", "token_classification")
CONLL = {"tokens": 0, "slots": 1}
FAMILY = "👨\u200d👩\u200d👧"


def prepare(rows, tokenizer, *tasks, **options):
    return prepare_datasets({"train": rows}, tokenizer, tasks or [SLOTS], **options)


def tags_of(data, i=0):
    task = data.tasks[-1]
    return [None if tag < 0 else task.labels[tag] for tag in data["train"][i]["labels"][task.name]]


# Spans


@pytest.mark.parametrize(
    ("text", "spans", "message"),
    [
        ("new york city", [[0, 8, "a"], [4, 13, "b"]], r"span 0 .*'new york' and span 1 .*'york city' overlap"),
        ("new york", [[4, 9, "a"]], r"span 0 \(4 to 9, 'a'\) ends after the text, which has 8 characters\.$"),
        ("new york", [[-1, 3, "a"]], r"expected 0 <= start < end, found -1 to 3"),
        ("\U0001f600 anna", [[3, 7, "a"]], r"which has 6 characters\. The offsets seem to count UTF-16 units"),
        (
            "\U0001f600 anna in",
            [{"start": 3, "end": 7, "label": "a", "text": "anna"}],
            r"says that its text is 'anna'\. The offsets seem to count UTF-16 units",
        ),
    ],
)
def test_impossible_spans_are_refused_with_their_line(text, spans, message, tokenizer, write):
    path = write(
        "a.jsonl", json.dumps({"text": "ok", "slots": []}) + "\n" + json.dumps({"text": text, "slots": spans})
    )
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: column 'slots': .*{message}"):
        prepare(path, tokenizer)


@pytest.mark.parametrize(
    ("text", "span", "tags"),
    [
        ("cafe\u0301 bar", [0, 4, "x"], ["B-x", "O"]),
        ("cafe\u0301 bar", [4, 5, "x"], ["B-x", "O"]),
        (f"{FAMILY} bar", [0, 1, "x"], ["B-x", "O"]),
        ("🇩🇪🇫🇷", [1, 2, "x"], ["B-x", "O"]),
        ("मैं bar", [1, 2, "x"], ["B-x", "O"]),
        ("שָׁלוֹם bar", [3, 5, "x"], ["B-x", "O"]),
    ],
)
def test_spans_inside_a_combined_character_get_all_of_it_and_are_counted(text, span, tags, tokenizer):
    data = prepare([{"text": text, "slots": [span]}], tokenizer)
    assert tags_of(data) == tags
    assert data.reports["train"].mismatched_spans == {"slots": 1}
    with pytest.raises(ValueError, match=r"train, row 0: column 'slots': span 0 .* inside the word"):
        prepare([{"text": text, "slots": [span]}], tokenizer, span_mismatch="error")


def test_rows_of_words_and_text_may_have_no_span(tokenizer):
    rows = [
        {"text": "Anna sings", "tokens": ["Anna", "sings"], "slots": [[0, 4, "P"]]},
        {"text": "It rains", "tokens": ["It", "rains"], "slots": []},
    ]
    data = prepare(rows, tokenizer)
    assert [tags_of(data, i) for i in range(2)] == [["B-P", "O"], ["O", "O"]]
    with pytest.raises(ValueError, match="expected one tag per word, found 0 tags for 1 tokens"):
        prepare([{"tokens": ["a"], "slots": ["B-x"]}, {"tokens": ["b"], "slots": []}], tokenizer)


def test_spans_that_a_scheme_cannot_separate_are_refused(tokenizer):
    side_by_side = [{"text": "Anna Karenina", "slots": [[0, 4, "P"], [5, 13, "P"]]}]
    for scheme in ("IOB1", "IOB2", "BILOU", "BIOES"):
        assert tags_of(prepare(side_by_side, tokenizer, tag_scheme=scheme)) == ["B-P", "B-P"]
    with pytest.raises(
        ValueError, match=r"row 0: column 'slots': two spans of one label .* tag_scheme='raw' can't tell"
    ):
        prepare(side_by_side, tokenizer, tag_scheme="raw")
    apart = [{"text": "Anna, Karenina", "slots": [[0, 4, "P"], [6, 14, "P"]]}]
    assert tags_of(prepare(apart, tokenizer, tag_scheme="raw")) == ["B-P", "O", "B-P"]


# Characters


@pytest.mark.parametrize(
    "row",
    [
        {"text": "ab \ud83d cd", "slots": [[0, 2, "x"]]},
        {"tokens": ["ab", "c\ude00"], "slots": ["O", "B-x"]},
        {"tokens": ["ab", "c"], "slots": ["O", "B-\ud83d"]},
        {"text": "ab cd", "slots": [[0, 2, "\ud83d"]]},
        {"text": "ab cd", "intent": "\ude00"},
        {"text": "ab cd", "intent": ["a", "\ude00"]},
    ],
)
def test_half_of_a_surrogate_pair_is_refused_with_its_line(row, tokenizer, write):
    path = write("a.jsonl", json.dumps({"text": "a", "slots": [], "intent": None}) + "\n" + json.dumps(row))
    with pytest.raises(ValueError, match=r"a\.jsonl:2: .*found half of a surrogate pair, '\\ud[8e][03][0d]'"):
        prepare(path, tokenizer, *([INTENT] if "intent" in row else [SLOTS]))


def test_an_escaped_surrogate_pair_is_one_character(tokenizer, write):
    data = prepare(write("a.jsonl", '{"text": "\\ud83d\\ude00 anna", "slots": [[2, 6, "x"]]}\n'), tokenizer)
    assert tags_of(data) == ["O", "B-x"]


def test_a_prediction_refuses_half_of_a_surrogate_pair(model, tokenizer):
    with pytest.raises(ValueError, match="input 1: found half of a surrogate pair, '\\\\ud83d', at character 3"):
        predict(model, tokenizer, ["whole", "cut\ud83d"])


ODD_WORDS = ["\0", "\u200b", "\u200e", "\x01", "\x7f", "\ufeff", "\u00ad", "\u2060", " ", "\n", "", "\u0085", "\u2028"]
ODD_TEXTS = [f"{FAMILY}👍🏽🇩🇪", "שלום \u202eabc\u202c مرحبا", "a\0b \u200b c", "x\u0085y\u2028z", "\ufeffplay"]


@pytest.mark.parametrize("kind", ["wordpiece", "wordpiece-cased", "byte-level", "byte-fallback", "unigram"])
def test_unusual_characters_are_words_like_others(kind, encoder):
    tokenizer = make_tokenizer(kind)
    rows = [
        {"tokens": [word, "paris", word], "slots": ["B-x", "B-y", "O"], "intent": "a", "text": f"{word} paris {word}"}
        for word in ODD_WORDS
    ]
    data = prepare(rows, tokenizer, INTENT, SLOTS)
    dropped = sum(not tokenizer.tokenize(word) for row in rows for word in row["tokens"])
    assert data.reports["train"].lost_words == dropped
    assert all(tags_of(data, i) == ["B-x", "B-y", "O"] for i in range(len(rows)))
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    for row, prediction in zip(rows, predict(model, tokenizer, rows), strict=True):
        assert len(prediction["slots"]["labels"]) == 3
        for entity in prediction["slots"]["entities"]:
            assert entity["text"] == row["text"][entity["start"] : entity["end"]]
    for text, prediction in zip(ODD_TEXTS, predict(model, tokenizer, ODD_TEXTS), strict=True):
        for entity in prediction["slots"]["entities"]:
            assert entity["text"] == text[entity["start"] : entity["end"]]


# Files


LINES = [{"text": "a\u2028b", "intent": "x\u0085y"}, {"text": f"{FAMILY} שלום", "intent": "z"}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in LINES)
CSV = "text,intent\n" + "".join(f"{row['text']},{row['intent']}\n" for row in LINES)


@pytest.mark.parametrize("quirk", ["none", "BOM", "CRLF", "no end", "blank lines", "packed"])
@pytest.mark.parametrize(("name", "text"), [("a.jsonl", JSONL), ("a.csv", CSV), ("a.tsv", CSV.replace(",", "\t"))])
def test_quirks_of_a_file_change_nothing(quirk, name, text, write):
    content = {
        "BOM": b"\xef\xbb\xbf" + text.encode(),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "no end": text.rstrip("\n").encode(),
        "blank lines": ("\n" + text.replace("\n", "\n\n")).encode(),
        "packed": gzip.compress(b"\xef\xbb\xbf" + text.encode()),
    }.get(quirk, text.encode())
    assert read_rows(write(name + (".gz" if quirk == "packed" else ""), content)).rows == LINES


def test_line_separators_do_not_split_words_of_columns(write):
    words = ["\u2028", "a\u0085b", "\x1c", "\u00a0", "\x0b", "\u200b", "#"]
    rows = read_rows(write("a.conll", "".join(f"{word} O\n" for word in words)), columns=CONLL)
    assert rows.rows == [{"tokens": words, "slots": ["O"] * len(words)}]
    assert rows.place(0, 6).endswith("a.conll:7")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.conll", "a.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,x\na,\0b\n", r":2: expected text in UTF-8, found a NUL byte; is the file UTF-16 or binary\?"),
        ("text,x\na,b\n".encode("utf-16-le"), r":1: expected text in UTF-8, found a NUL byte; is the file UTF-16"),
        (
            b"text,x\ra,b\r",
            r":1: found a carriage return inside the line; expected lines that end with a line feed",
        ),
        (b'text,x\na,"b\rc"\n', r":2: found a carriage return inside the line"),
        (b"text,x\na,\xe9t\xe9\n", r":2: expected UTF-8, found the byte 0xe9 at position 2 of the line"),
    ],
    ids=["NUL", "UTF-16", "carriage returns alone", "a carriage return in a cell", "Latin-1"],
)
def test_bytes_that_are_not_text_are_refused_with_their_line(name, content, message, write):
    # Lines of JSON are parsed one by one, so the line before the error has to be valid.
    if name == "a.jsonl" and content.startswith(b"text,x\na"):
        content = content.replace(b"text,x", b"{}", 1)
    columns = {"columns": CONLL} if name == "a.conll" else {}
    if name == "a.conll":
        content = content.replace(b",", b"\t")
    with pytest.raises(ValueError, match=rf"{name.replace('.', '[.]')}{message}"):
        read_rows(write(name, content), **columns)


@pytest.mark.parametrize("cut", [0, 4, 12, 0.5, -8, -1])
def test_a_truncated_parquet_file_is_refused(cut, tmp_path):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: int(cut * len(whole)) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match=r"cut\.parquet: expected a whole Parquet file\. \w+"):
        read_rows(tmp_path / "cut.parquet")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.conll.gz"])
@pytest.mark.parametrize("cut", [5, 40, -9, -4])
def test_a_truncated_compressed_file_is_refused(name, cut, write):
    line = '{{"text": {}}}\n' if "jsonl" in name else "{}\tO\n"
    path = write(name, gzip.compress("".join(map(line.format, range(9999))).encode())[:cut])
    with pytest.raises(ValueError, match=r"a\.\w+\.gz: expected a whole gzip file\. Compressed file ended"):
        list(read_rows(path, columns=CONLL if "conll" in name else None).rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{}\n" + "[" * 100_000, r"a\.jsonl:2: expected a JSON object, found '\[\[.*recursion depth"),
        ("a.jsonl", '{}\n{"a": ' + "9" * 5000 + "}", r"a\.jsonl:2: expected a JSON object, found .*4300 digits"),
        ("a.json", "[" * 100_000, r"a\.json: expected JSON \(.*recursion depth"),
        ("a.json", "[" + "9" * 5000 + "]", r"a\.json: expected JSON \(.*4300 digits"),
    ],
    ids=["deep line", "long number in a line", "deep", "long number"],
)
def test_json_that_python_cannot_parse_is_named(name, content, message, write):
    with pytest.raises(ValueError, match=message):
        read_rows(write(name, content))


# Rows


def test_a_row_of_100_000_words_is_prepared_completely(tokenizer):
    words = ["paris", "in", "rain", "\u200b"] * 25_000
    data = prepare([{"tokens": words, "slots": ["B-x", "O", "O", "O"] * 25_000}], tokenizer)
    row, report = data["train"][0], data.reports["train"]
    assert len(row["tag_positions"]) == len(row["labels"]["slots"]) == 100_000
    assert (report.words, report.lost_words, report.windowed_rows) == (100_000, 25_000, 1)
    assert report.windows == len(row["window_lengths"])
    assert len({position for position in row["tag_positions"] if position >= 0}) == 75_000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("special_tokens", [True, False], ids=["special tokens", "none"])
def test_a_row_without_a_subword_is_counted_and_harms_no_model(architecture, special_tokens, encoders, caplog):
    tokenizer = make_tokenizer(ARCHITECTURES[architecture][0], special_tokens)
    tokenizer.model_max_length = 20
    rows = [
        {"tokens": ["", ""], "slots": ["B-x", "O"], "intent": "a"},
        {"tokens": ["play"], "slots": ["O"], "intent": "b"},
        {"tokens": ["play", "it"] * 30, "slots": ["O", "B-x"] * 30, "intent": "b"},
    ]
    data = prepare(rows, tokenizer, INTENT, SLOTS)
    assert (data.reports["train"].empty_rows, data.reports["train"].lost_words) == (1, 2)
    assert "train: 1 of 3 rows have no subword." in caplog.text
    assert "train: 2 of 63 words have no subword: predicted as O, and scored." in caplog.text
    collate = MultiTaskDataCollator(tokenizer, data.tasks)
    for pooling in ("mean", "cls", "max"):
        model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks, pooling=pooling)
        for chosen in ([0], [0, 1], [0, 1, 2]):
            output = model(**collate([data["train"][i] for i in chosen]))
            assert all(logits.isfinite().all() for logits in output.logits.values())
            model.zero_grad()
            output.loss.backward()
            assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
        found = [prediction["slots"]["labels"] for prediction in predict(model, tokenizer, rows)]
        assert found[0] == ["O", "O"]
        assert [len(labels) for labels in found] == [2, 1, 60]


# Labels


def test_a_column_of_ids_needs_names(tokenizer):
    message = (
        r"train, row 0: column 'slots': expected the name of a tag, found 1 \(word 0, 'a'\)\. "
        r"Ids need names: give the task's `labels` in their order, make the column a ClassLabel of datasets, or write "
        r"the tags as strings\."
    )
    rows = [{"tokens": ["a"], "slots": [1]}]
    for given in (rows, datasets.Dataset.from_list(rows)):
        with pytest.raises(ValueError, match=message):
            prepare(given, tokenizer)
    names = datasets.List(datasets.ClassLabel(names=["O", "B-x"]))
    assert tags_of(prepare(given.cast_column("slots", names), tokenizer)) == ["B-x"]


def test_a_column_of_texts_is_not_a_label_set(tokenizer):
    rows = [{"text": "a", "intent": f"id {i}"} for i in range(100_000)]
    message = (
        "train: task 'intent': column 'intent' has 100,000 different labels in 100,000 rows, most of which occur "
        r"once; is it the right column\? Give `labels` if it is"
    )
    with pytest.raises(ValueError, match=message):
        prepare(rows, tokenizer, INTENT)


MANY = [f"label {i}" for i in range(100_000)]


def seconds(call, *arguments, **options):
    start = time.process_time()
    call(*arguments, **options)
    return time.process_time() - start


def test_100_000_given_labels_do_not_take_quadratic_time(tokenizer):
    task = TaskConfig("intent", "sequence_classification", labels=MANY, problem_type="single_label_classification")
    rows = [{"text": "a", "intent": label} for label in MANY[::50]]
    assert seconds(prepare, rows, tokenizer, task) < 10
    unseen = [{"text": "a", "intent": f"{label}?"} for label in MANY[::50]]
    with pytest.raises(ValueError, match=r"does not know the labels 'label 0\?' \(1 times\).* and 99980 more"):
        prepare([*rows, *unseen], tokenizer, task)


def test_splitting_many_labels_does_not_take_quadratic_time():
    assert seconds(split_validation, [{label} for label in MANY[:30_000] for _ in range(2)], 0.1, 0) < 5


def test_ignored_labels_are_counted_and_only_some_are_named(tokenizer, caplog):
    unseen = [{"text": "a", "intent": f"unseen {i:03}"} for i in range(100)]
    splits = {"train": [{"text": "a", "intent": "x"}], "test": unseen}
    data = prepare_datasets(splits, tokenizer, [INTENT], unseen_labels="ignore")
    assert data.reports["test"].unseen_labels["intent"].total() == 100
    assert "test: 100 labels of 'intent' that the task does not have" in caplog.text
    assert "unseen 019 and 80 more." in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {"text": "a", "intent": "x"},
            {"text": "a", "intent": "y"},
            r"dataset 1, split train has labels that dataset 0, split train does not have: y\. Rows of",
        ),
        (
            {"text": "a", "intent": "x"},
            {"text": "a", "intent": 0.5},
            r"dataset 0, split train makes it a single_label_classification, dataset 1, split train a regression",
        ),
    ],
)
def test_datasets_that_disagree_on_labels_are_both_named(first, second, message, tokenizer, write):
    with pytest.raises(ValueError, match=message):
        prepare_datasets([DataConfig(train=[first]), DataConfig(train=[second])], tokenizer, [INTENT])
    files = [write(f"{i}.jsonl", json.dumps(row) + "\n") for i, row in enumerate((first, second))]
    with pytest.raises(ValueError, match=r"task 'intent': .*[01]\.jsonl (has labels|makes it) .*[01]\.jsonl"):
        prepare_datasets([DataConfig(train=str(file)) for file in files], tokenizer, [INTENT])


# The hub


@pytest.mark.parametrize("streaming", [True, False])
def test_without_the_hub_the_message_says_what_to_do(streaming):
    message = (
        r"dataset 'some/data' could not be read: Couldn't reach 'some/data' on the Hub \(OfflineModeIsEnabled\)\. "
        r"Without the hub it has to be in the cache .* save_to_disk, and give the folders as train, validation"
    )
    with pytest.raises(ValueError, match=message):
        load_hub_split("some/data", "train", streaming=streaming)
    with pytest.raises(ValueError, match=message):
        DataConfig(name="some/data", train="train", streaming=streaming).sources()


def test_a_folder_of_data_files_needs_no_hub(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a", "intent": "x"}\n', encoding="utf-8")
    assert load_hub_split(str(tmp_path), "train")[0] == {"text": "a", "intent": "x"}
    with pytest.raises(ValueError, match=r"unknown split 'test'\. Allowed: 'train'"):
        load_hub_split(str(tmp_path), "test")
