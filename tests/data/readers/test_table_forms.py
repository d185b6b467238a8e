"""Tables as people have them: quotes in texts, other delimiters and encodings, no header, lists in cells."""

import gzip

import pytest

from hf_multitask.data import Rows
from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.file_formats import open_file
from hf_multitask.data.readers.reading_options import ReadingOptions

SEMICOLONS = "text;intent\nthe plant closes;news\nsend a parcel, please;order\n"


def read(path, columns=None, format=None, **options):
    return Rows.collect(str(path), open_file(path, format, columns, ReadingOptions(**options))).rows


def read_parts(path, columns=None, format=None, **options):
    """Return the rows and the reasons of the broken rows, as a prediction reads them."""
    file = ChunkedFile(path, format, columns, ReadingOptions(**options))
    rows = [row for chunk in file for row in file.parse(chunk)]
    return [row.row for row in rows if row.row is not None], [row.reason for row in rows if row.row is None]


# Quotes


def test_quotes_of_texts_with_tabs_merge_no_rows(write):
    lines = ['"I love the lamp\tpraise', "the plant closes\tnews", 'what a day"\tpraise', '"Hi" she said\torder']
    path = write("a.tsv", "text\tintent\n" + "\n".join(lines) + "\n")
    assert read(path) == [dict(zip(("text", "intent"), line.split("\t"), strict=True)) for line in lines]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"play"', "play"),
        ('"say ""hi"""', 'say "hi"'),
        ('"a" or "b"', '"a" or "b"'),
        ('"', '"'),
        ('""', None),
        ('"one\ttwo"', "one\ttwo"),
        ('5" disk', '5" disk'),
    ],
)
def test_a_cell_of_a_table_with_tabs_is_quoted_if_quotes_begin_and_end_it(cell, text, write):
    assert read(write("a.tsv", f"text\tintent\n{cell}\tx\nlast\ty\n")) == [
        {"text": text, "intent": "x"},
        {"text": "last", "intent": "y"},
    ]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_rows_with_a_cell_that_spans_lines_are_counted_and_named(name, write, caplog):
    text = 'text\tintent\n"play\n\nnow"\tx\nrain\ty\n"so\nlong"\tz\n'
    path = write(name, text if name == "a.tsv" else text.replace("\t", ","))
    assert [row["text"] for row in read(path)] == ["play\n\nnow", "rain", "so\nlong"]
    assert "rows with a cell that spans several lines: 2, the first in line 2" in caplog.text


def test_an_open_cell_ends_before_the_next_whole_row(write):
    path = write("a.tsv", 'text\tintent\n"open\nrain\tx\nsnow\ty\n')
    rows, broken = read_parts(path)
    assert [row["text"] for row in rows] == ["rain", "snow"]
    assert len(broken) == 1
    with pytest.raises(ValueError, match=r"a\.tsv:2: expected 2 cells .*found 1.*give `quoting: double`"):
        read(path)


def test_quoting_none_reads_quotes_as_characters(write):
    path = write("a.csv", 'text,intent\n"I love it,praise\nrain,x\nday",praise\n')
    assert len(read(path)) == 1
    assert [row["text"] for row in read(path, quoting="none")] == ['"I love it', "rain", 'day"']


def test_a_stray_quote_in_a_csv_names_the_option(write):
    with pytest.raises(ValueError, match=r"a\.csv:2: ',' expected after '\"'\. .*`quoting: none`"):
        read(write("a.csv", 'text,intent\n"Hi" she said,x\n'))


def test_quotes_after_backslashes(write):
    path = write("a.csv", 'text,intent\n"say \\"hi\\", now",x\n')
    assert read(path, quoting="backslash") == [{"text": 'say "hi", now', "intent": "x"}]


# Delimiters


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_another_delimiter_is_guessed_and_named(delimiter, name, write, caplog):
    rows = read(write(name, SEMICOLONS.replace(";", delimiter)))
    assert [row["intent"] for row in rows] == ["news", "order"]
    if (name, delimiter) != ("a.tsv", "\t"):
        assert f"the cells are separated by {delimiter!r} (`delimiter: {delimiter!r}`)" in caplog.text


def test_a_given_delimiter_is_used(write):
    assert read(write("a.csv", "text~intent\nrain;snow,hail~x\n"), delimiter="~") == [
        {"text": "rain;snow,hail", "intent": "x"}
    ]


def test_a_delimiter_that_may_be_two_is_asked_for(write):
    with pytest.raises(ValueError, match=r"a\.csv:1: the delimiter may be ';' or '\|'; give `delimiter`"):
        read(write("a.csv", "a;b|c\n1;2|3\n"))


def test_a_table_of_one_column_stays_one(write):
    assert read(write("a.csv", "text\nrain; snow\nhail\n")) == [{"text": "rain; snow"}, {"text": "hail"}]


def test_the_line_of_excel_that_names_the_delimiter_is_no_row(write):
    assert read(write("a.csv", "sep=;\n" + SEMICOLONS)) == read(write("b.csv", SEMICOLONS))


def test_a_tab_may_be_written_as_an_escape():
    assert ReadingOptions(delimiter=r"\t").delimiter == "\t"


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", '"'])
def test_a_delimiter_is_one_character(delimiter):
    with pytest.raises(ValueError, match="delimiter must be one character"):
        ReadingOptions(delimiter=delimiter)


# Encodings


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.conll", "a.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_decides_and_is_named(name, encoding, write, caplog):
    content = {"a.csv": "text,x\nschön,y\n", "a.jsonl": '{"text": "schön"}\n', "a.conll": "schön O\n"}
    data = content[name.removesuffix(".gz")].encode(encoding)
    columns = {"tokens": 0, "ner": 1} if name == "a.conll" else None
    (row,) = read(write(name, gzip.compress(data) if name.endswith(".gz") else data), columns)
    assert row.get("text", row.get("tokens")) in ("schön", ["schön"])
    assert f"read as {encoding}, whose byte order mark it begins with" in caplog.text


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "gb18030", "utf-8-sig"])
def test_a_given_encoding_is_used(encoding, write):
    path = write("a.csv", "text,intent\nétoile,x\n".encode(encoding))
    assert read(path, encoding=encoding) == [{"text": "étoile", "intent": "x"}]


def test_another_encoding_is_named_with_what_it_would_read(write):
    path = write("a.csv", "text,intent\nschöne Grüße,x\nbye,y\n".encode("cp1252"))
    with pytest.raises(
        ValueError, match=r"a\.csv:2: .*0xf6.*`encoding: cp1252` \(Windows\) would read 'schöne Grüße,x'"
    ):
        read(path)
    rows, broken = read_parts(path)
    assert (len(rows), len(broken)) == (1, 1)


def test_bytes_that_are_not_in_the_given_encoding_are_refused_with_their_line(write):
    with pytest.raises(ValueError, match=r"a\.csv:2: expected ascii, found the byte 0xc3"):
        read(write("a.csv", "text\né\n"), encoding="ascii")
    with pytest.raises(ValueError, match=r"a\.csv:2: expected utf-16"):
        read(write("a.csv", "text\né\n".encode("utf-16")[:-1]), encoding="utf-16")


@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_an_unknown_encoding_is_refused(encoding):
    with pytest.raises(ValueError, match="expected the name of an encoding of Python"):
        ReadingOptions(encoding=encoding)


# Header


def test_without_a_header_columns_have_numbers(write):
    path = write("a.csv", "rain,x\nsnow,y\n")
    columns = {"text": 0, "intent": 1}
    expected = [{"text": "rain", "intent": "x"}, {"text": "snow", "intent": "y"}]
    assert read(path, columns, header=False) == expected
    assert read(path, columns, header=True) == expected[1:]
    with pytest.raises(
        ValueError, match=r"give `header: true` .* or `header: false` if it is a row\. It is 'rain, x'"
    ):
        read(path, columns)


def test_numbers_may_be_the_names_of_a_header(write):
    assert read(write("a.csv", "0,1\nrain,x\n"), {"text": 0, "intent": 1}) == [{"text": "rain", "intent": "x"}]


def test_a_missing_column_asks_whether_there_is_a_header(write):
    with pytest.raises(ValueError, match=r"unknown column 'text'.*give `header: false` and `columns` by number"):
        read(write("a.csv", "rain,x\nsnow,y\n"), {"text": "text"})


def test_columns_without_a_name_may_be_several(write):
    assert read(write("a.csv", "text,intent,,\nrain,x,,\n")) == [{"text": "rain", "intent": "x", "": None}]


# Lists in cells


@pytest.mark.parametrize("cell", ['["Mira", "runs"]', "['Mira', 'runs']", "Mira runs"])
def test_words_in_a_cell_are_a_list_or_parted_by_blanks(cell, write):
    assert read(write("a.tsv", f"tokens\tner\n{cell}\tB-PER O\n")) == [{"tokens": ["Mira", "runs"], "ner": "B-PER O"}]


@pytest.mark.parametrize(
    "cell", ["[" * 3000 + "]", "[" * 3000, "['a' 'b']", "[1, 2", '["a"]]', "[" + "9" * 5000 + "]"]
)
def test_a_cell_that_is_no_list_is_refused_with_its_line(cell, write):
    path = write("a.tsv", f"tokens\tner\n{cell}\tO\n")
    rows, broken = read_parts(path)
    if cell.endswith("]"):
        assert rows == []
        assert broken[0].startswith("column 'tokens': expected a JSON list")
        with pytest.raises(ValueError, match=r"a\.tsv:2: column 'tokens': expected a JSON list, found ['\"]\["):
            read(path)
    else:
        assert rows[0]["tokens"] == cell.split()


def test_a_broken_line_of_a_table_of_words_breaks_one_row(write):
    path = write("a.csv", "s,w,t\n1,Mira,B-PER\n,runs\n2,now,O\n3,,O\n4,bye,O\n")
    rows, broken = read_parts(path, {"row": "s", "tokens": "w", "ner": "t"})
    assert [row["tokens"] for row in rows] == [["now"], ["bye"]]
    assert [reason.removeprefix(f"{path}:3: ") for reason in broken] == [
        "expected 3 cells (s, w, t), found 2. If the delimiter is another one, give `delimiter`.",
        "the word is missing.",
    ]
