"""Parquet files as other programs write them: metadata, ids, bytes and types that cannot be read."""

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.file_formats import file_features, open_file

TEXT = {"text": ["a", "b", "c"]}


def rows_of(path):
    return [located.row for located in open_file(path)]


def parts_of(path):
    file = ChunkedFile(path)
    rows = [row for chunk in file for row in file.parse(chunk)]
    return [row.row for row in rows if row.row is not None], [
        (row.place, row.reason) for row in rows if row.row is None
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        b"no JSON",
        b"\xff",
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"text": 5}}}',
        b'{"info": {"features": {"text": {"_type": "Unheard"}}}}',
        b'{"info": {"features": {"text": {"_type": "ClassLabel", "names": 5}}}}',
    ],
)
def test_metadata_that_cannot_be_read_is_refused_with_the_file(metadata, tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(TEXT).replace_schema_metadata({"huggingface": metadata}), path)
    for read in (rows_of, file_features):
        with pytest.raises(ValueError, match=r"a\.parquet: the metadata that `datasets` writes, .* cannot be read"):
            read(path)


def test_a_class_without_a_name_is_refused_with_its_row_and_skipped_alone(tmp_path):
    path = tmp_path / "a.parquet"
    features = datasets.Features({"text": datasets.Value("string"), "intent": datasets.ClassLabel(names=["x", "y"])})
    schema = features.arrow_schema
    parquet.write_table(pa.table({**TEXT, "intent": [0, 7, -1]}, schema=schema), path)
    message = "column 'intent': the class 7 has no name; there are 2 names."
    with pytest.raises(ValueError, match=rf"a\.parquet, row 1: {message}"):
        rows_of(path)
    rows, broken = parts_of(path)
    assert [row["intent"] for row in rows] == ["x", None]
    assert broken == [(f"{path}, row 1", message)]


def test_text_that_is_not_utf8_is_refused_with_its_row_and_skipped_alone(tmp_path):
    path = tmp_path / "a.parquet"
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    text = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a\xffc"))
    parquet.write_table(pa.table({"text": text}), path)
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: column 'text': 'utf-8' codec can't decode byte 0xff"):
        rows_of(path)
    rows, ((place, reason),) = parts_of(path)
    assert [row["text"] for row in rows] == ["a", "c"]
    assert place == f"{path}, row 1"
    assert reason.startswith("column 'text'")


def test_columns_of_other_types_do_not_matter(tmp_path):
    path = tmp_path / "a.parquet"
    pairs = pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64()))
    parquet.write_table(pa.table({**TEXT, "pairs": pairs}), path)
    assert [row["text"] for row in rows_of(path)] == TEXT["text"]
    assert list(file_features(path)) == ["text"]


def test_classes_inside_spans_have_their_names(tmp_path):
    span = {"start": datasets.Value("int64"), "label": datasets.ClassLabel(names=["X", "Y"])}
    features = datasets.Features({"spans": datasets.List(span)})
    dataset = datasets.Dataset.from_dict({"spans": [[{"start": 0, "label": 1}], []]}, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [{"spans": [{"start": 0, "label": "Y"}]}, {"spans": []}]


@pytest.mark.parametrize(("name", "message"), [("a.spacy", "doc.ents"), ("a.ann", "the lines T1, T2")])
def test_formats_that_are_not_read_say_what_to_write(name, message, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"unknown extension .*{message}"):
        rows_of(tmp_path / name)


def test_a_folder_of_brat_says_what_to_write(tmp_path):
    (tmp_path / "a.ann").write_text("T1\tPER 0 4\tMira\n")
    with pytest.raises(ValueError, match=r"expected a file, or a folder .*brat's standoff files are not read"):
        rows_of(tmp_path)


def test_a_name_of_a_column_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"text": ["a"], "intent": ["x"]}), path)
    path.write_bytes(path.read_bytes().replace(b"\x18\x04text", b"\x18\x04\xffext"))
    with pytest.raises(ValueError, match=r"rows\.parquet: the name of a column is not UTF-8, found b'\\xffext'"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("state.json", (b'"_format_columns"', b'"other"')),
        ("state.json", (b'"data-00000-of-00001.arrow"', b"7")),
        ("dataset_info.json", (b'"dtype": "string",', b"")),
        ("dataset_info.json", (b'"string"', b'"int64"')),
        ("dataset_info.json", (b"{", b"[" * 5000)),
        ("dataset_info.json", (b'"Value"', b'"Unheard"')),
        ("data-00000-of-00001.arrow", (b"abc", b"a\xffc")),
        # Ends of the texts; reading up to the second one would end the process.
        ("data-00000-of-00001.arrow", (b"\0\0\0\0\1\0\0\0\2\0\0\0", b"\0\0\0\0\1\0\0\x68\2\0\0\0")),
    ],
)
def test_a_damaged_folder_of_save_to_disk_is_refused_with_its_name(name, change, tmp_path):
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict(TEXT).save_to_disk(folder)
    content = (folder / name).read_bytes()
    assert change[0] in content
    (folder / name).write_bytes(content.replace(*change))
    with pytest.raises(ValueError, match=f"^{folder}: "):
        rows_of(folder)
