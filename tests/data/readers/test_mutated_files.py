"""Damaged files of every format: only documented errors come out, and no row is lost without being counted."""

import gzip
import io
import json
import time

import datasets
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_multitask import DataConfig, TaskConfig
from hf_multitask.data.preparation import load_datasets
from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.file_formats import open_file
from hf_multitask.data.readers.reading_options import ReadingOptions
from tests.data.reading import without_times

# The same examples in every run.
FIXED = settings(
    max_examples=500,
    derandomize=True,
    database=None,
    deadline=5000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
MAX_SECONDS = 5

INTENT = TaskConfig("intent", "sequence_classification")
NER = TaskConfig("ner", "token_classification")
SPANS = TaskConfig("ner", "token_classification", column="spans")
TEXTS = ["play jazz", 'say "hi", now; 5" | x', "schön 👍🏽", "a\u2028b", "[x]"]
CONLLU = (
    "# text = Geh zum\n1\tGeh\t_\tV\t_\t_\t0\t_\t_\t_\n2-3\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tzu\t_\tA\t_\t_\t1\t_\t_\t_\n\n"
)


def _jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _parquet():
    features = datasets.Features({"text": datasets.Value("string"), "intent": datasets.ClassLabel(names=["a", "b"])})
    file = io.BytesIO()
    datasets.Dataset.from_dict({"text": TEXTS, "intent": [0, 1, 0, 1, -1]}, features=features).to_parquet(file)
    return file.getvalue()


def _excel():
    workbook, file = openpyxl.Workbook(), io.BytesIO()
    for row in [("text", "intent"), *((text, i % 2) for i, text in enumerate(TEXTS)), ("=1+1", None)]:
        workbook.active.append(row)
    workbook.save(file)
    return without_times(file.getvalue())


_ROWS = [{"text": text, "intent": f"c{i % 2}"} for i, text in enumerate(TEXTS)]
_LABEL_STUDIO = [
    {
        "data": {"text": text},
        "annotations": [
            {
                "result": [
                    {"from_name": "n", "type": "labels", "value": {"start": 0, "end": 1, "labels": ["X"]}},
                    {"from_name": "c", "type": "choices", "value": {"choices": ["good"]}},
                ]
            }
        ],
    }
    for text in TEXTS
]
_PRODIGY = [
    {"text": text, "label": "S", "answer": ("accept", "reject", "ignore")[i % 3]} for i, text in enumerate(TEXTS)
]
_PRODIGY += [{"text": "play jazz", "spans": [{"start": 5, "end": 9, "label": "X"}], "answer": "accept"}]
# By file name: the content, the format, the columns and the tasks.
FILES = {
    "a.jsonl": (_jsonl(_ROWS), None, {}, [INTENT]),
    "spans.jsonl": (_jsonl({"text": text, "ner": [[0, 1, "X"]]} for text in TEXTS), None, {}, [NER]),
    "a.json": (json.dumps(_ROWS, indent=1).encode(), None, {}, [INTENT]),
    "a.jsonl.gz": (gzip.compress(_jsonl(_ROWS), mtime=0), None, {}, [INTENT]),
    "a.csv": (b'text,intent\n"play, jazz",c0\n"say ""hi""",c1\nrain,c0\n"so\nlong",\n', None, {}, [INTENT]),
    "cells.csv": (b'tokens,ner\n"[""a"", ""b""]","[""B-X"", ""O""]"\na b,O B-X\n', None, {}, [NER]),
    "words.csv": (b"s,w,t\n1,new,B-X\n,york,I-X\n2,rain,O\n", None, {"row": "s", "tokens": "w", "ner": "t"}, [NER]),
    "a.tsv": (b'text\tintent\n"I love it\tc0\n"a ""b"""\tc1\nday"\tc0\n"so\nlong"\tc1\n', None, {}, [INTENT]),
    "a.conll": (b"-DOCSTART- (1)\nMira\tB-X\n#x\tO\n\n# a b\nin\tO\n", None, {"tokens": 0, "ner": 1}, [NER]),
    "a.conllu": ((CONLLU * 2).encode(), None, {"ner": 3}, [NER]),
    "a.xlsx": (_excel(), None, {}, [INTENT]),
    "a.parquet": (_parquet(), None, {}, [INTENT]),
    "doccano.jsonl": (_jsonl({"text": t, "label": [[0, 1, "X"]]} for t in TEXTS), "doccano", {}, [SPANS]),
    "studio.json": (json.dumps(_LABEL_STUDIO).encode(), "label_studio", {}, [SPANS]),
    "prodigy.jsonl": (_jsonl(_PRODIGY), "prodigy", {}, [SPANS]),
    "spacy.json": (json.dumps([[t, {"entities": [[0, 1, "X"]]}] for t in TEXTS]).encode(), "spacy", {}, [SPANS]),
    "a.txt": ("\n".join(["play jazz", "schön", "", "x"]).encode(), "text", {}, []),
}
# What files break by, besides single bytes.
_INSERTS = [
    b"\0",
    b"\r",
    b"\n",
    b'"',
    b"\xff",
    b"\xef\xbb\xbf",
    b"[" * 3000,
    b"9" * 5000,
    b"null",
    b"NaN",
    b"-1",
    b"1e999",
]
_INSERTS += [
    b"\t",
    b";",
    b",",
    b"#",
    b"{}",
    b"[]",
    b"\xc2\xa0",
    b"\\ud83d",
    b"true",
    b'"text"',
    b"\xff\xfe",
    b'""',
    b"\\",
]


@st.composite
def mutated(draw, content):
    """Return bytes of a file after some changes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["insert", "insert", "delete", "replace", "copy", "cut"]))
        if kind == "insert":
            data[position:position] = draw(st.sampled_from(_INSERTS))
        elif kind == "replace":
            data[position : position + 1] = draw(st.binary(min_size=1, max_size=2))
        elif kind == "delete":
            del data[position : position + draw(st.integers(1, 30))]
        elif kind == "copy":
            data[position:position] = data[: draw(st.integers(0, len(data)))]
        else:
            del data[position + draw(st.integers(0, 40)) :]
    return bytes(data)


def read_all(path, format, columns, options=None):
    """Return the rows, the broken rows and the error of the whole file, as a prediction reads them."""
    found, error = [], None
    try:
        file = ChunkedFile(path, format, columns, options)
        found = [row for chunk in file for row in file.parse(chunk)]
    except ValueError as raised:
        error = raised
    return [row for row in found if row.row is not None], [row for row in found if row.row is None], error


def outcome(call):
    """Return the result and the documented error of a call, one of which is None."""
    try:
        return call(), None
    except ValueError as error:
        return None, error


@pytest.mark.parametrize("name", FILES)
def test_only_documented_errors_come_out_and_broken_rows_are_counted(name, tmp_path):
    content, format, columns, tasks = FILES[name]
    path = tmp_path / name

    @FIXED
    @given(st.data())
    def check(data):
        path.write_bytes(data.draw(mutated(content)))
        start = time.monotonic()
        rows, broken, error = read_all(path, format, columns)
        assert error is None or str(path) in str(error)
        assert all(str(path) in row.place and row.reason for row in broken)
        if format == "text":
            return
        # Without skipping, reading stops at the first broken row with its message.
        read, stopped = outcome(lambda: list(open_file(path, format, columns)))
        assert (stopped is not None) == (bool(broken) or error is not None)
        assert stopped is None or str(path) in str(stopped)
        assert read is None or len(read) == len(rows)
        _, refused = outcome(
            lambda: load_datasets([DataConfig(train=str(path), format=format, columns=columns)], tasks)
        )
        assert refused is None or str(path) in str(refused)
        assert time.monotonic() - start < MAX_SECONDS

    check()


# Rows in = rows out + rows counted: the lines of these files are known to be rows.
_NO_LINE_END = st.binary(max_size=6).map(lambda data: data.replace(b"\n", b" "))


def _lines(name):
    content = FILES[name][0]
    return [line for line in content.split(b"\n") if line]


@pytest.mark.parametrize("name", ["a.jsonl", "spans.jsonl", "a.tsv", "a.csv", "a.txt", "doccano.jsonl"])
def test_each_line_is_a_row_or_is_counted(name, tmp_path):
    _, format, columns, _ = FILES[name]
    path = tmp_path / name
    header = {"a.tsv": b"text\tintent", "a.csv": b"text,intent"}.get(name)
    lines = {"a.tsv": [b'"a\tx', b"b\ty", b'c"\tz'], "a.csv": [b"a,x", b"b,y", b'5",z']}.get(name) or _lines(name)
    # Without quoting, each line of a table is a row.
    options = ReadingOptions(quoting="none" if header else None, delimiter="," if name == "a.csv" else None)

    @FIXED
    @given(st.data())
    def check(data):
        changed = []
        for line in lines * 2:
            position = data.draw(st.integers(0, len(line)))
            changed.append(line[:position] + data.draw(_NO_LINE_END) + line[position:])
        path.write_bytes(b"\n".join([header, *changed] if header else changed))
        rows, broken, error = read_all(path, format, columns, options)
        assert error is None
        assert len(rows) + len(broken) == len(changed)

    check()


@FIXED
@given(st.lists(st.tuples(st.text("ab\"'\\ ;,|#é", min_size=1, max_size=9), st.sampled_from("xyz")), min_size=1))
def test_texts_with_tabs_between_cells_come_back_as_they_are(tmp_path, rows):
    path = tmp_path / "a.tsv"
    path.write_text("text\tintent\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    read = [
        (located.row["text"], located.row["intent"])
        for located in open_file(path, None, {}, ReadingOptions(quoting="none"))
    ]
    assert read == rows
    assert len(list(open_file(path))) == len(rows)


@FIXED
@given(st.lists(st.lists(st.sampled_from(["ok O", "#tag O", "# O", "broken", "\xa0 O"]), min_size=1), min_size=1))
def test_each_sentence_of_a_column_file_is_a_row_or_is_counted(tmp_path, sentences):
    path = tmp_path / "a.conll"
    path.write_text("first O\n\n" + "\n\n".join("\n".join(lines) for lines in sentences) + "\n", encoding="utf-8")
    rows, broken, error = read_all(path, None, {"tokens": 0, "ner": 1})
    assert error is None
    assert len(rows) + len(broken) == len(sentences) + 1
    assert len(broken) == sum("broken" in lines for lines in sentences)
    words = sum(len(lines) for lines in sentences if "broken" not in lines)
    assert sum(len(row.row["tokens"]) for row in rows) == words + 1
