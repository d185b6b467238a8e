"""Files of any size: all input and output formats, broken rows, killed runs, several processes."""

import csv
import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import psutil
import pyarrow as pa
import pytest
import torch
from filelock import FileLock
from pyarrow import parquet

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.cli import main
from hf_multitask.data.readers import chunked_file
from hf_multitask.data.readers.reading_options import ReadingOptions
from hf_multitask.models.predictor import OutputOptions
from hf_multitask.prediction import BulkPrediction, PredictionCounts, batch_size
from hf_multitask.runtime import folder_lock
from tests.comparison import approximately
from tests.predictions import predict
from tests.tiny import SENTENCES
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b", "c"]),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("mood", "sequence_classification", labels=["joy", "fear"], problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
]
TEXTS = [" ".join(SENTENCES[i % 8].split()[: 2 + i % 7]) for i in range(23)]
CHUNK_ROWS = 5
BLANKS = ReadingOptions(delimiter=" ")


@pytest.fixture(scope="module")
def model_dir(encoder, tmp_path_factory):
    """Write a model that tags eagerly: random heads of this scale predict many entities."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    torch.nn.init.normal_(model.heads["slots"].classifier.weight, std=2.0)
    model.save_pretrained(folder)
    load_tokenizer(encoder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_dir):
    return MultiTaskModel.from_pretrained(model_dir), load_tokenizer(model_dir)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunked_file, "CHUNK_ROWS", CHUNK_ROWS)


@pytest.fixture(scope="module")
def expected(model):
    return predict(*model, TEXTS)


def write_texts(path):
    """Write the texts in the format of the file's extension."""
    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".jsonl":
        path.write_text(lines)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"], delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix == ".txt":
        path.write_text("".join(text + "\r\n" for text in TEXTS))
    else:
        datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(model, source, output, **options):
    return BulkPrediction(Path(source), Path(output), **options).run(*model)


def leftovers(folder):
    return [path.name for path in folder.iterdir() if ".parts" in path.name or "unfinished" in path.name]


FORMS = ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt", "saved"]


@pytest.mark.parametrize("name", FORMS)
def test_every_input_format_gives_the_same_predictions(name, model, expected, tmp_path):
    counts = run(model, write_texts(tmp_path / name), tmp_path / "out.jsonl")
    assert counts == PredictionCounts(predicted=23, skipped=0, earlier=0)
    found = read_jsonl(tmp_path / "out.jsonl")
    assert found == approximately(expected, abs=1e-5)
    assert [list(row) for row in found] == [list(row) for row in expected]
    assert leftovers(tmp_path) == []


def test_words_of_a_conll_file(model, tmp_path):
    (tmp_path / "a.conll").write_text("play\tO\nmusic\tO\n\nrain\tO\n")
    run(model, tmp_path / "a.conll", tmp_path / "out.jsonl", columns={"tokens": 0, "ner": 1})
    expected = predict(*model, [{"tokens": ["play", "music"]}, {"tokens": ["rain"]}])
    assert read_jsonl(tmp_path / "out.jsonl") == approximately(expected, abs=1e-5)


def test_parquet_and_jsonl_have_the_same_content(model, tmp_path):
    source = write_texts(tmp_path / "a.parquet")
    for name in ("out.jsonl", "out.parquet"):
        run(model, source, tmp_path / name, keep=["id"], options=OutputOptions(tag_scheme="BILOU", word_labels=True))
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == read_jsonl(tmp_path / "out.jsonl")
    assert table.schema.field("id").type == pa.int64()
    assert table.num_rows == 23


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("word_labels", [True, False])
def test_csv_and_jsonl_have_the_same_content(top_k, word_labels, model, tmp_path):
    source = write_texts(tmp_path / "a.jsonl")
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        run(model, source, tmp_path / name, options=OutputOptions(top_k=top_k, word_labels=word_labels))
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert len(table) == len(lines) == 23
    for cells, line in zip(table, lines, strict=True):
        assert json.loads(cells["slots"]) == line["slots"]["entities"]
        assert float(cells["grade"]) == line["grade"]["value"]
        assert float(cells["mood_fear"]) == line["mood"]["values"]["fear"]
        assert ("slots_labels" in cells) == word_labels
        if word_labels:
            assert json.loads(cells["slots_labels"]) == line["slots"]["labels"]
        if top_k:
            assert json.loads(cells["intent"]) == line["intent"]
        else:
            assert cells["intent"] == line["intent"]["label"]
            assert float(cells["intent_score"]) == line["intent"]["score"]
            assert json.loads(cells["topics"]) == line["topics"]["labels"]
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == lines


def test_tasks_and_columns_of_the_input(model, tmp_path, write_jsonl):
    rows = [{"utterance": text, "key": {"n": i}} for i, text in enumerate(TEXTS)]
    source = write_jsonl(rows, tmp_path / "a.jsonl")
    options = {"options": OutputOptions(tasks=["intent"]), "columns": {"text": "utterance"}}
    run(model, source, tmp_path / "out.jsonl", keep=["key", "utterance"], **options)
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [list(line) for line in lines] == [["key", "utterance", "intent"]] * 23
    assert [line["key"]["n"] for line in lines] == list(range(23))
    run(model, source, tmp_path / "out.parquet", keep=["key"], **options)
    assert parquet.read_table(tmp_path / "out.parquet")["key"][2].as_py() == '{"n": 2}'
    with pytest.raises(ValueError, match=r"a\.jsonl:1: keep: unknown column 'keys'\. Did you mean 'key'"):
        run(model, source, tmp_path / "no.jsonl", keep=["keys"], **options)
    with pytest.raises(ValueError, match="keep: 'intent' is the name of a task"):
        run(model, source, tmp_path / "no.jsonl", keep=["intent"], **options)
    with pytest.raises(ValueError, match="CSV: two columns would have the name 'intent_score'"):
        run(model, source, tmp_path / "no.csv", keep=["intent_score"], **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl", "out.parquet"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "saved"])
def test_kept_columns_have_the_names_of_the_file(name, model, tmp_path):
    source = write_texts(tmp_path / name)
    run(model, source, tmp_path / "out.jsonl", keep=["id"], columns={"key": "id"})
    assert [int(line["id"]) for line in read_jsonl(tmp_path / "out.jsonl")] == list(range(23))


def test_a_kept_value_that_no_file_can_hold_is_a_broken_row(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "play", "note": "ok"}\n{"text": "play", "note": "a\\ud83d"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: keep: column 'note': found half of a surrogate pair"):
        run(model, tmp_path / "a.jsonl", tmp_path / "out.jsonl", keep=["note"])
    counts = run(model, tmp_path / "a.jsonl", tmp_path / "out.jsonl", keep=["note"], on_error="skip")
    assert (counts.predicted, counts.skipped) == (1, 1)


def test_a_kept_value_that_json_cannot_represent_is_refused(model, tmp_path):
    parquet.write_table(pa.Table.from_pylist([{"text": "play", "sound": b"\x00\xff"}]), tmp_path / "a.parquet")
    with pytest.raises(
        ValueError, match=r"keep: column 'sound': expected a value that JSON can represent, not of type"
    ):
        run(model, tmp_path / "a.parquet", tmp_path / "out.jsonl", keep=["sound"])


GOOD = '{"text": "play"}'
BROKEN_JSONL = [
    ('{"text": "play', 'expected a JSON object, found \'{"text": "play\''),
    ("[1]", r"expected a JSON object, found '\[1\]'"),
    ('{"text": " "}', "'text' is empty"),
    ('{"text": null}', "expected a column 'tokens' or 'text', found 'text' without a value"),
    ('{"text": 3}', "'text' must be a string, found 3"),
    ('{"sentence": "play"}', "expected a column 'tokens' or 'text', found 'sentence'"),
    ('{"text": "a\\ud83d"}', "found half of a surrogate pair"),
    ('{"tokens": ["play", 3]}', "'tokens' must be a list of strings"),
    ('{"text": "play", "tokens": ["stop"]}', "word 0 of `tokens`, 'stop', does not occur in `text`"),
    (b'{"text": "\xff"}', "expected UTF-8, found the byte 0xff at position 10"),
    (b'{"text": "\x00"}', "expected text in UTF-8, found a NUL byte"),
    ('{"text": ' + "[" * 100_000, "expected a JSON object"),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN_JSONL)
def test_a_broken_row_stops_the_run_or_is_listed(broken, reason, model, tmp_path):
    broken = broken if isinstance(broken, bytes) else broken.encode()
    lines = [GOOD.encode(), b""] * 4 + [broken] + [GOOD.encode()] * 3
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=rf"a\.jsonl:9: {reason}"):
        run(model, tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    counts = run(model, tmp_path / "a.jsonl", tmp_path / "out.jsonl", on_error="skip")
    # Parts that the first run completed are not predicted again.
    assert counts == PredictionCounts(predicted=7, skipped=1, earlier=3)
    (skipped,) = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert skipped["line"] == 9
    assert re.match(reason, skipped["reason"])
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 7
    assert leftovers(tmp_path) == []


def test_broken_rows_of_a_table(model, tmp_path):
    rows = ["id,text", "1,play", "2", '3,"two\nlines"', '4,"play"it', "5,", "6,\udcff", "7,rain", "8,\x00", "9,last"]
    (tmp_path / "a.csv").write_bytes("\n".join(rows).encode(errors="surrogateescape"))
    counts = run(model, tmp_path / "a.csv", tmp_path / "out.csv", keep=["id"], on_error="skip")
    assert counts == PredictionCounts(predicted=4, skipped=5, earlier=0)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["1", "3", "7", "9"]
    skipped = read_jsonl(tmp_path / "out.csv.errors.jsonl")
    assert [row["line"] for row in skipped] == [3, 6, 7, 8, 10]
    assert skipped[0]["reason"].startswith("expected 2 cells (id, text), found 1.")
    assert "expected after" in skipped[1]["reason"]
    assert skipped[2]["reason"] == "expected a column 'tokens' or 'text', found 'id', 'text' without a value."
    assert "expected UTF-8, found the byte 0xff" in skipped[3]["reason"]
    assert "found a NUL byte" in skipped[4]["reason"]


@pytest.mark.parametrize(
    ("name", "content", "options", "broken"),
    [
        ("a.conll", "play O\nnow\n\nstop O\n\nrain O\n", {"columns": {"tokens": 0}, "reading": BLANKS}, []),
        ("a.conll", "play O\nnow\n\nstop O\n\nrain O\n", {"columns": {"tokens": 0, "ner": 1}}, [{"line": 1}]),
        ("a.json", '[{"text": "play"}, null, {"text": "rain"}]', {}, [{"row": 1}]),
        ("a.json", '{"text": "play"}\n5\n{"text": "rain"}\n', {}, [{"line": 2}]),
        ("a.tsv", 'text\tid\n"play\t1\nstop"\t2\n"rain\nnow\t3\n', {}, [{"line": 4}]),
        ("a.jsonl", '{"text": "a", "label": []}\n{"text": 5}\n', {"format": "doccano"}, [{"line": 2}]),
    ],
)
def test_rows_read_are_rows_predicted_and_rows_skipped(name, content, options, broken, model, tmp_path):
    (tmp_path / name).write_text(content)
    counts = run(model, tmp_path / name, tmp_path / "out.jsonl", on_error="skip", **options)
    errors = tmp_path / "out.jsonl.errors.jsonl"
    found = [{key: row[key] for key in row if key != "reason"} for row in read_jsonl(errors)] if broken else []
    assert found == broken
    assert counts.skipped == len(broken)
    assert counts.predicted == len(read_jsonl(tmp_path / "out.jsonl"))
    assert counts.predicted > 0


def test_the_form_of_a_table_is_given_to_a_prediction(model, tmp_path):
    (tmp_path / "a.csv").write_bytes("é;1\nrain;2\n".encode("cp1252"))
    reading = ReadingOptions(encoding="cp1252", delimiter=";", header=False)
    run(model, tmp_path / "a.csv", tmp_path / "out.jsonl", columns={"text": 0}, keep=["1"], reading=reading)
    assert [row["1"] for row in read_jsonl(tmp_path / "out.jsonl")] == ["1", "2"]


def test_an_open_quote_is_not_skipped_together_with_all_following_rows(model, tmp_path):
    (tmp_path / "a.csv").write_text('text\nplay\n"stop\n' + "rain\n" * 20)
    with pytest.raises(ValueError, match=r"a\.csv:3: a cell begins with a quote that is never closed"):
        run(model, tmp_path / "a.csv", tmp_path / "out.csv", on_error="skip")


def test_broken_rows_of_parquet_and_text(model, tmp_path):
    parquet.write_table(pa.table({"text": ["play", None, "", "rain"]}), tmp_path / "a.parquet")
    run(model, tmp_path / "a.parquet", tmp_path / "p.jsonl", on_error="skip")
    assert [row["row"] for row in read_jsonl(tmp_path / "p.jsonl.errors.jsonl")] == [1, 2]
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: expected a column 'tokens' or 'text'"):
        run(model, tmp_path / "a.parquet", tmp_path / "q.jsonl")
    (tmp_path / "a.txt").write_bytes(b"play\n\nrain\n")
    run(model, tmp_path / "a.txt", tmp_path / "t.jsonl", on_error="skip")
    assert read_jsonl(tmp_path / "t.jsonl.errors.jsonl") == [
        {"line": 2, "reason": "'text' is empty; expected at least one word."}
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"\n", "expected at least one row, found none"),
        ("a.csv", b"", "expected at least one row, found none"),
        ("a.csv", b"text,text\na,b\n", "the header names 'text' more than once"),
        ("a.csv", b"wo\xffrd\na\n", "a.csv:1: expected UTF-8"),
        ("a.parquet", b"PAR1", "expected a whole Parquet file"),
        ("a.jsonl.gz", gzip.compress(f"{GOOD}\n".encode() * 9, mtime=0)[:-9], "expected a whole gzip file"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_refused_even_if_rows_are_skipped(name, content, message, workers, model, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        run(model, tmp_path / name, tmp_path / "out.jsonl", on_error="skip", workers=workers)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".parts"] == [name]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "out.json"}, ValueError, r"output: unknown extension '\.json'\. Did you mean '\.jsonl'"),
        ({"output": "no/out.jsonl"}, FileNotFoundError, r"output: there is no folder '.*/no'"),
        ({"output": "a.jsonl", "overwrite": True}, ValueError, "is the input"),
        ({"output": "old.jsonl"}, FileExistsError, "exists already. Use --overwrite"),
        ({"output": "folder.csv", "overwrite": True}, FileExistsError, "is a folder"),
        ({"input": "b.jsonl"}, FileNotFoundError, "there is no such file; .*Did you mean 'a.jsonl'"),
        ({"batch_size": 0}, ValueError, "batch_size must be 'auto' or a whole number from 1, found 0"),
        ({"batch_size": "large"}, ValueError, "batch_size must be 'auto' or"),
        ({"workers": -1}, ValueError, "workers must be a whole number from 0"),
        ({"workers": True}, ValueError, "workers must be a whole number from 0, found True"),
        ({"on_error": "skp"}, ValueError, "on_error: unknown value 'skp'. Did you mean 'skip'"),
        ({"format": "jsnl"}, ValueError, "unknown format 'jsnl'"),
    ],
)
def test_an_invalid_argument_is_refused_before_a_model_is_loaded(options, error, message, tmp_path):
    write_texts(tmp_path / "a.jsonl")
    (tmp_path / "old.jsonl").write_text("old")
    (tmp_path / "folder.csv").mkdir()
    given = {"input": "a.jsonl", "output": "out.jsonl", **options}
    paths = {name: tmp_path / given.pop(name) for name in ("input", "output")}
    with pytest.raises(error, match=message):
        BulkPrediction(**paths, **given)
    assert (tmp_path / "old.jsonl").read_text() == "old"


def test_columns_that_are_missing_from_a_table(model, tmp_path):
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(ValueError, match=r"columns\.text: unknown column 'txt'\. Did you mean 'text'"):
            run(model, write_texts(tmp_path / name), tmp_path / "o.jsonl", columns={"text": "txt"}, on_error="skip")


def test_a_table_without_a_header_is_told_how_to_say_so(model, tmp_path):
    (tmp_path / "a.csv").write_text("play some music,1\nrain,2\n")
    with pytest.raises(ValueError, match=r"a\.csv:2: expected a column .*give `header: false` and .*--no-header"):
        run(model, tmp_path / "a.csv", tmp_path / "o.jsonl")
    (tmp_path / "b.csv").write_text('text\nplay\n""\n')
    with pytest.raises(ValueError, match=r"b\.csv:3: expected a column 'tokens' or 'text', found .*value\.$"):
        run(model, tmp_path / "b.csv", tmp_path / "o.jsonl")


def test_overwrite_replaces_the_output_and_its_errors(model, tmp_path):
    (tmp_path / "out.jsonl").write_text("old")
    (tmp_path / "out.jsonl.errors.jsonl").write_text("old")
    run(model, write_texts(tmp_path / "a.jsonl"), tmp_path / "out.jsonl", overwrite=True)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 23
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


@pytest.fixture
def stopped(model, tmp_path):
    """Return a job that stopped at its last row."""
    source = write_texts(tmp_path / "a.jsonl")
    with source.open("a") as file:
        file.write("broken\n")
    job = BulkPrediction(source, tmp_path / "out.jsonl", batch_size=4)
    with pytest.raises(ValueError, match=r"a\.jsonl:24: expected a JSON object"):
        job.run(*model)
    return replace(job, on_error="skip")


def test_a_changed_input_is_refused(stopped, model):
    time.sleep(0.01)
    write_texts(stopped.input)
    with pytest.raises(FileExistsError, match=r"an unfinished run has left parts .*\(input: \[\[\"a.jsonl\", .*, now"):
        stopped.run(*model)
    assert replace(stopped, overwrite=True).run(*model) == PredictionCounts(predicted=23, skipped=0, earlier=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": OutputOptions(top_k=2)}, "top_k: null, now 2; word_labels: true, now false"),
        ({"keep": ["id"]}, r"keep: \[\], now \[\"id\"\]"),
        ({"reading": ReadingOptions(encoding="utf-16")}, r'encoding: null, now "utf-16"'),
        ({"columns": {"text": "id"}}, r"columns: {}, now {\"text\": \"id\"}"),
    ],
)
def test_changed_options_are_refused(changed, message, stopped, model):
    with pytest.raises(FileExistsError, match=message) as refusal:
        replace(stopped, **changed).run(*model)
    # As in a notebook, which keeps the last error and with it all that its frames refer to.
    assert stopped.run(*model).earlier == 20
    del refusal


def test_another_model_is_refused_but_the_same_model_from_elsewhere_is_not(stopped, model, model_dir, tmp_path):
    other, tokenizer = MultiTaskModel.from_pretrained(model_dir), model[1]
    other.heads["intent"].classifier.bias.data[0] += 1
    with pytest.raises(FileExistsError, match=r"\(model: "):
        stopped.run(other, tokenizer)
    model[0].save_pretrained(tmp_path / "moved")
    config = tmp_path / "moved" / "config.json"
    config.write_text(json.dumps(dict(reversed(json.loads(config.read_text()).items()))))
    assert stopped.run(MultiTaskModel.from_pretrained(tmp_path / "moved"), tokenizer).earlier == 20


def test_a_run_resumes_with_another_batch_size_and_with_workers(stopped, model):
    counts = replace(stopped, batch_size=2, workers=2).run(*model)
    assert counts == PredictionCounts(predicted=23, skipped=1, earlier=20)


def test_rows_that_an_earlier_run_has_skipped_are_counted(model, tmp_path):
    source = write_texts(tmp_path / "a.jsonl")
    source.write_text("broken\n" + source.read_text())
    job = BulkPrediction(source, tmp_path / "out.jsonl", batch_size=4, on_error="skip")

    def interrupt(rows, share):
        if rows == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(*model, interrupt)
    progress = []
    counts = job.run(*model, lambda rows, share: progress.append(rows))
    assert counts == PredictionCounts(predicted=23, skipped=1, earlier=10)
    assert progress == [15, 20, 24]


def test_two_runs_do_not_write_the_same_parts(stopped, model, monkeypatch):
    monkeypatch.setattr(folder_lock, "_TIMEOUT_SECONDS", 0)
    with (
        FileLock(f"{stopped.output}.parts/lock"),
        pytest.raises(FileExistsError, match="another process is predicting into it"),
    ):
        stopped.run(*model)
    assert stopped.run(*model).read == 24


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers, model, tmp_path):
    source = write_texts(tmp_path / "a.jsonl")
    for number in (0, workers):
        run(model, source, tmp_path / f"{number}.jsonl", workers=number, batch_size=4)
    assert (tmp_path / f"{workers}.jsonl").read_bytes() == (tmp_path / "0.jsonl").read_bytes()


def test_batches_found_automatically_change_no_prediction(model, expected, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(batch_size, "_MIN_TOKENS_TO_MEASURE", 1)
    monkeypatch.setattr(batch_size, "_MIN_TOKENS", 8)
    caplog.set_level("INFO")
    run(model, write_texts(tmp_path / "a.jsonl"), tmp_path / "out.jsonl", batch_size="auto")
    assert read_jsonl(tmp_path / "out.jsonl") == approximately(expected, abs=1e-5)
    assert re.search(r"Batches of \d+ tokens: the fastest on cpu", caplog.text)


def test_batches_are_halved_until_they_fit_into_memory(model, expected, tmp_path, monkeypatch, caplog):
    sizes = []
    forward = MultiTaskModel.forward

    def with_little_memory(self, input_ids, **kwargs):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(MultiTaskModel, "forward", with_little_memory)
    run(model, write_texts(tmp_path / "a.jsonl"), tmp_path / "out.jsonl", batch_size=8)
    assert sizes[:3] == [5, 4, 2]
    assert max(sizes[3:]) == 2
    assert read_jsonl(tmp_path / "out.jsonl") == approximately(expected, abs=1e-5)
    assert "Out of memory: continuing with batches of at most 2 rows" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "שלום עולם, מה שלומך? مرحبا بالعالم",
        "e\u0301\u0302a\u0308 n\u0303o 👩\u200d👩\u200d👧 🇧🇷 क्षि",
        "\u202eplay\u202c in\u00a0paris\u200b ﷽",
    ],
)
def test_entities_are_slices_of_any_text(text, model, tmp_path, write_jsonl):
    run(model, write_jsonl([{"text": text}], tmp_path / "a.jsonl"), tmp_path / "out.jsonl", keep=["text"])
    (line,) = read_jsonl(tmp_path / "out.jsonl")
    assert line["text"] == text
    assert line["slots"]["entities"]
    for entity in line["slots"]["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"] != ""


LONG = {"no space": "ab" * 500_000, "words": "play paris " * 90_909, "marks": "e\u0301" * 500_000}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_line_of_a_million_characters(name, model, tmp_path, write_jsonl):
    rows = [{"text": "play"}, {"text": LONG[name]}, {"text": "rain"}]
    run(model, write_jsonl(rows, tmp_path / "a.jsonl"), tmp_path / "out.jsonl")
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [lines[0], lines[2]] == approximately(predict(*model, ["play", "rain"]), abs=1e-5)
    for entity in lines[1]["slots"]["entities"]:
        assert LONG[name][entity["start"] : entity["end"]] == entity["text"] != ""


def command(model_dir, source, output, *options, chunk_rows=40, processes=None):
    """Return the command line of a run in separate processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes else []
    program = ["-m", "tests.prediction.bulk_program", str(chunk_rows), "predict", str(model_dir), str(source)]
    return [sys.executable, *launcher, *program, "--output", str(output), "--batch-size", "16", *options]


def start(arguments, **kwargs):
    # One thread: with more, the order of sums depends on the number of processes.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        arguments, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def finish(arguments, **kwargs):
    process = start(arguments, **kwargs)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def kill_at_first_part(arguments, output):
    """Start a run, and kill it and all its children after it has written a part."""
    process = start(arguments)
    folder = output.with_name(output.name + ".parts")
    wait_until(lambda: process.poll() is not None or list(folder.glob("*.part")))
    assert process.poll() is None, process.communicate()[0]
    started = psutil.Process(process.pid).children(recursive=True)
    # torchrun first, or it would terminate the others gracefully.
    for one in [psutil.Process(process.pid), *started]:
        one.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(started, timeout=30)
    assert not output.exists()
    return len(list(folder.glob("*.part")))


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory):
    """Write rows of all lengths, some broken."""
    path = tmp_path_factory.mktemp("rows") / "many.jsonl"
    rows = [{"id": i, "text": " ".join((TEXTS[i % 23] + " ") * (1 + i % 3))} for i in range(1200)]
    path.write_text("".join(json.dumps(row) + "\n" if i % 97 else "broken\n" for i, row in enumerate(rows)))
    return path


@pytest.fixture(scope="module")
def uninterrupted(many_rows, model_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out.jsonl"
    status, output_text = finish(command(model_dir, many_rows, output, "--on-error", "skip", "--keep", "id"))
    assert status == 0, output_text
    assert "1200 rows read, 1187 predicted, 13 skipped: see" in output_text
    ids = [row["id"] for row in read_jsonl(output)]
    assert ids == [i for i in range(1200) if i % 97]
    return output.read_bytes(), output.with_name("out.jsonl.errors.jsonl").read_bytes()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(many_rows, uninterrupted, model_dir, tmp_path):
    output = tmp_path / "out.jsonl"
    arguments = command(model_dir, many_rows, output, "--on-error", "skip", "--keep", "id")
    written = kill_at_first_part(arguments, output)
    assert 0 < written < 30
    status, output_text = finish(arguments)
    assert status == 0, output_text
    assert re.search(r"1200 rows read \(\d+ of them by an earlier run\), 1187 predicted, 13 skipped", output_text)
    assert (output.read_bytes(), output.with_name("out.jsonl.errors.jsonl").read_bytes()) == uninterrupted
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_workers_end_with_a_killed_run(many_rows, model_dir, tmp_path):
    # Chunks of this size do not fit into a pipe: at the kill, a worker is waiting for a reader that will not come.
    output = tmp_path / "out.jsonl"
    process = start(command(model_dir, many_rows, output, "--on-error", "skip", "--workers", "2", chunk_rows=400))
    while not list(tmp_path.glob("out.jsonl.parts/*.part")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=15)
    for worker in alive:
        worker.kill()
    assert not alive


@pytest.mark.slow
def test_a_full_disk_leaves_no_output_and_loses_no_prediction(many_rows, uninterrupted, model_dir, tmp_path):
    output = tmp_path / "out.jsonl"
    arguments = command(model_dir, many_rows, output, "--on-error", "skip", "--keep", "id")
    # Enough for each part, but not for the merged output.
    limit = len(uninterrupted[0]) // 2
    status, output_text = finish(
        arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert status == 1
    assert "error: [Errno 27] File too large" in output_text
    assert "Traceback" not in output_text
    assert not output.exists()
    status, output_text = finish(arguments)
    assert status == 0, output_text
    assert "1200 rows read (1200 of them by an earlier run)" in output_text
    assert output.read_bytes() == uninterrupted[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(model_dir, tmp_path, write_jsonl):
    peaks = {}
    for count in (1_000, 12_000):
        source = write_jsonl([{"text": TEXTS[i % 23]} for i in range(count)], tmp_path / f"{count}.jsonl")
        status, output_text = finish(command(model_dir, source, tmp_path / f"{count}.out.jsonl", chunk_rows=500))
        assert status == 0, output_text
        peaks[count] = int(re.search(r"VmHWM:\s+(\d+) kB", output_text).group(1))
    assert peaks[12_000] <= 1.1 * peaks[1_000]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(model_dir, tmp_path, capsys):
    source = write_texts(tmp_path / "a.jsonl")
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(["predict", str(model_dir), str(source), "--output", str(tmp_path / "locked" / "out.jsonl")]) == 2
    assert "error: [Errno 13] Permission denied" in capsys.readouterr().err


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_write_the_same_output_as_one_even_when_killed(many_rows, uninterrupted, model_dir, tmp_path):
    output = tmp_path / "out.jsonl"
    options = ["--on-error", "skip", "--keep", "id"]
    # Sums may be rounded differently in another process.
    rows = approximately([json.loads(line) for line in uninterrupted[0].splitlines()], abs=1e-6)
    on_two = command(model_dir, many_rows, output, *options, processes=2)
    status, output_text = finish(on_two)
    assert status == 0, output_text
    assert output_text.count("1200 rows read, 1187 predicted, 13 skipped") == 1
    assert read_jsonl(output) == rows
    assert output.with_name("out.jsonl.errors.jsonl").read_bytes() == uninterrupted[1]
    output.unlink()

    kill_at_first_part(on_two, output)
    status, output_text = finish(command(model_dir, many_rows, output, *options))
    assert status == 0, output_text
    assert "of them by an earlier run" in output_text
    assert read_jsonl(output) == rows
    output.unlink()

    kill_at_first_part(command(model_dir, many_rows, output, *options), output)
    status, output_text = finish(on_two)
    assert status == 0, output_text
    assert read_jsonl(output) == rows
    assert leftovers(tmp_path) == []


@pytest.mark.distributed
@pytest.mark.slow
def test_a_broken_row_ends_all_processes(many_rows, model_dir, tmp_path):
    status, output_text = finish(command(model_dir, many_rows, tmp_path / "out.jsonl", processes=2))
    assert status != 0
    assert re.search(r"error: .*many\.jsonl:\d+: expected a JSON object", output_text)
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_reports_its_counts(model_dir, tmp_path, capsys):
    source = write_texts(tmp_path / "a.jsonl")
    with source.open("a") as file:
        file.write("broken\n")
    output = tmp_path / "out.csv"
    arguments = ["predict", str(model_dir), str(source), "--output", str(output), "--batch-size", "8"]
    assert main(arguments) == 2
    assert "error: " in (output_text := capsys.readouterr().err)
    assert "a.jsonl:24: expected a JSON object" in output_text
    assert main([*arguments, "--on-error", "skip", "--tasks", "intent,grade", "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("24 rows read, 23 predicted, 1 skipped: see ")
    assert output.read_text().splitlines()[0] == "intent,intent_score,grade"
    assert main(arguments) == 2
    assert "exists already. Use --overwrite to replace it" in capsys.readouterr().err
