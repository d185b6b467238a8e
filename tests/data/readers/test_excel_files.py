"""Excel files are tables of texts: dates, numbers and formulas as a sheet shows them, problems by row."""

import datetime
import logging
import zipfile

import openpyxl
import pytest

from hf_multitask import prepare_datasets
from hf_multitask.data import DataConfig, Rows
from hf_multitask.data.readers import excel_files
from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.excel_files import sheet_names
from hf_multitask.data.readers.file_formats import open_file
from hf_multitask.data.readers.reading_options import ReadingOptions, log_guess
from hf_multitask.models import TaskConfig
from tests.data.reading import without_times


@pytest.fixture
def save(tmp_path):
    """Return a function that writes sheets, each a list of rows, to an Excel file."""

    def write(*sheets, name="rows.xlsx", titles=()):
        workbook = openpyxl.Workbook()
        workbook.remove(workbook.active)
        for i, rows in enumerate(sheets):
            sheet = workbook.create_sheet(titles[i] if titles else None)
            for row in rows:
                sheet.append(row)
        path = tmp_path / name
        workbook.save(path)
        return path

    return write


def read(path, columns=None, **options):
    return Rows.collect(str(path), open_file(path, None, columns, ReadingOptions(**options)))


def read_parts(path):
    file = ChunkedFile(path)
    rows = [row for chunk in file for row in file.parse(chunk)]
    return [row.row for row in rows if row.row is not None], {row.number: row.reason for row in rows if not row.row}


def test_cells_are_the_texts_that_a_sheet_shows(save):
    values = {
        "play <b>jazz</b>": "play <b>jazz</b>",
        3: "3",
        4.0: "4",
        0.1 + 0.2: "0.3",
        1e-07: "1e-07",
        True: "TRUE",
        datetime.date(2024, 1, 2): "2024-01-02",
        datetime.datetime(2024, 1, 2, 3, 4): "2024-01-02 03:04:00",
        datetime.time(3, 4): "03:04:00",
        "two\nlines": "two\nlines",
    }
    path = save([["text", "value"], *(["a", value] for value in values)])
    assert [row["value"] for row in read(path).rows] == list(values.values())


def test_rows_have_the_numbers_of_the_sheet_and_empty_rows_are_counted(save, caplog):
    log_guess.cache_clear()
    path = save([["text", "intent"], [], ["play", "music"], [" ", None], ["rain", None]])
    with caplog.at_level(logging.WARNING):
        rows = read(path)
    assert rows.rows == [{"text": "play", "intent": "music"}, {"text": "rain", "intent": None}]
    assert rows.line_numbers == [3, 5]
    assert "rows.xlsx: empty rows that are left out: 2." in caplog.text


def test_a_formula_has_its_value(save):
    path = save([["text", "n"], ["a", "=1+1"], ["b", 5]])
    # As Excel does, write the value next to the formula.
    parts = {}
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert b"<v></v>" in parts[sheet] or b"<v/>" in parts[sheet] or b"<v />" in parts[sheet]
    for empty in (b"<v></v>", b"<v/>", b"<v />"):
        parts[sheet] = parts[sheet].replace(empty, b"<v>2</v>")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert [row["n"] for row in read(path).rows] == ["2", "5"]


def test_broken_rows_are_named_and_leave_the_others_readable(save):
    path = save([["text", "n"], ["a", "=1+1"], ["b", "#N/A"], ["c", 1, 2], ["d", 4]])
    with pytest.raises(ValueError, match=r"rows\.xlsx:2: cell B2 has a formula without its value"):
        read(path)
    rows, reasons = read_parts(path)
    assert rows == [{"text": "d", "n": "4"}]
    assert list(reasons) == [2, 3, 4]
    assert reasons[3].startswith("cell B3 contains the error #N/A")
    assert reasons[4] == "expected 2 cells (text, n), found 3."


def test_a_sheet_is_chosen_by_its_name(save, caplog):
    log_guess.cache_clear()
    path = save([["text"], ["a"]], [["text"], ["b"]], titles=("First", "Second one"))
    assert sheet_names(path) == ["First", "Second one"]
    with caplog.at_level(logging.WARNING):
        assert read(path).rows == [{"text": "a"}]
    assert "reading the first sheet of 'First', 'Second one' (`sheet: 'First'`)" in caplog.text
    assert read(path, sheet="Second one").rows == [{"text": "b"}]
    with pytest.raises(ValueError, match=r"unknown sheet 'Secnd one'. Did you mean 'Second one'"):
        read(path, sheet="Secnd one")


def test_columns_without_a_name_or_a_header(save):
    assert read(save([["text", None, "x"], ["a", "b", "c"]])).rows == [{"text": "a", "B": "b", "x": "c"}]
    bare = save([["play jazz", "music"], ["rain?", "weather"]], name="bare.xlsx")
    columns = {"text": 0, "intent": 1}
    assert read(bare, columns, header=False).rows[0] == {"text": "play jazz", "intent": "music"}
    with pytest.raises(ValueError, match=r"rows\.xlsx:1: the header names 'a' more than once"):
        read(save([["a", "a"], ["x", "y"]]))


def test_words_may_have_a_row_each(save):
    rows = [["Sentence", "Word", "Tag"], [1, "in", "O"], [None, "Paris", "B-LOC"], [2, "hello", "O"]]
    found = read(save(rows), {"row": "Sentence", "tokens": "Word", "ner": "Tag"})
    assert [row["tokens"] for row in found.rows] == [["in", "Paris"], ["hello"]]
    assert found.word_lines == [[2, 3], [4]]


def test_files_that_are_not_excel_files_are_refused(write, save, monkeypatch):
    with pytest.raises(
        ValueError, match=r"a\.xlsx: expected an Excel file \(\.xlsx\) that is whole and has no password"
    ):
        read(write("a.xlsx", b"PK\x03\x04 no"))
    other = write("b.xlsx", b"")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("mimetype", "text")
    with pytest.raises(ValueError, match=r"b\.xlsx: expected an Excel file"):
        read(other)
    for name in ("c.xls", "d.docx", "e.ods"):
        with pytest.raises(ValueError, match=r"Save the table as \.xlsx or CSV"):
            read(write(name, b"x"))
    monkeypatch.setattr(excel_files, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ValueError, match=r"it unpacks to .* KiB; allowed are 100 B\."):
        read(save([["text"], ["a"]]))


def test_damage_anywhere_is_a_refusal_with_the_name_of_the_file(save):
    path = save([["text", "n"], *([f"say it {i}", i] for i in range(30))])
    content = without_times(path.read_bytes())
    # The directory at the end has the sizes, methods and flags of what is in the file.
    directory = content.index(b"PK\x01\x02")
    flips = [(position, 0x55) for position in range(0, directory, 97)]
    flips += [(position, bit) for position in range(directory, directory + 150) for bit in (1, 8, 32, 64, 128)]
    messages = []
    for position, bits in flips:
        path.write_bytes(content[:position] + bytes([content[position] ^ bits]) + content[position + 1 :])
        try:
            read(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert [message for message in messages if not message.startswith(f"{path}")] == []


def test_an_archive_without_sheets_is_refused(save):
    path = save([["text"], ["a"]])
    path.write_bytes(path.read_bytes().replace(b"xl/workbook.xml", b"xl/workbook.xmk"))
    with pytest.raises(ValueError, match=f"^{path}: "):
        read(path)


def test_a_missing_package_is_named(save, monkeypatch):
    path = save([["text"], ["a"]])
    monkeypatch.setattr("hf_multitask.runtime.extras.missing_packages", lambda extra: ["openpyxl"])
    with pytest.raises(ImportError, match=r"needs openpyxl: pip install 'hf-multitask\[excel\]'"):
        read(path)


def test_a_sheet_is_prepared_for_training(save, tokenizer):
    path = save([["utterance", "intent"], *([f"play music {i}", "ab"[i % 2]] for i in range(8))])
    config = DataConfig(train=str(path), columns={"text": "utterance"}, validation_split=0.25)
    data = prepare_datasets([config], tokenizer, [TaskConfig("intent", "sequence_classification")])
    assert len(data["train"]) == 6
    assert data.tasks[0].labels == ["a", "b"]
