"""Lines of CoNLL files that are no words, and forms of columns."""

import pytest

from hf_multitask.data import Rows
from hf_multitask.data.readers.chunked_file import ChunkedFile
from hf_multitask.data.readers.file_formats import open_file
from hf_multitask.data.readers.reading_options import ReadingOptions

NER = {"tokens": 0, "ner": 1}
CONLLU = (
    "# sent_id = 1\n1\tGeh\tgehen\tVERB\t_\t_\t0\troot\t_\t_\n2-3\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tzu\tzu\tADP\t_\t_\t4\tcase\t_\t_\n3\tdem\tder\tDET\t_\t_\t4\tdet\t_\t_\n4.1\tjetzt\tjetzt\tADV\t_\t_\t_\t_\t_\t_\n\n"
)


@pytest.fixture
def read(tmp_path):
    def read(text, columns=NER, name="a.conll", format=None, **options):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return Rows.collect(str(path), open_file(path, format, columns, ReadingOptions(**options))).rows

    return read


@pytest.mark.parametrize(
    "mark",
    ["-DOCSTART- (1 LUMORA)", "-DOCSTART-\t-X-", "-DOCSTART- O", "#begin document (a/b); part 000", "#end document"],
)
@pytest.mark.parametrize("separator", ["\t", " "])
def test_document_marks_end_a_row_whatever_their_columns(mark, separator, read):
    rows = read(f"{mark}\nVarn{separator}B-LOC\n{mark}\nis{separator}O\n")
    assert [row["tokens"] for row in rows] == [["Varn"], ["is"]]


@pytest.mark.parametrize("tag", ["B-PER", "PER"])
def test_comments_of_as_many_columns_as_a_word_are_left_out_and_counted(tag, read, caplog):
    comment = "# id 51ab-77\tdomain=en\n"
    rows = read(f"{comment}mira _ _ {tag}\nruns _ _ O\n\n{comment}varn _ _ O\n", {"tokens": 0, "ner": 3})
    assert [row["tokens"] for row in rows] == [["mira", "runs"], ["varn"]]
    assert "are read as comments, although they have as many columns as a word: 2, the first is line 1" in caplog.text


@pytest.mark.parametrize("separator", ["\t", " "])
def test_hashtags_are_words_at_any_place(separator, read):
    lines = ["#sale", "#", "now", "#sale", "#"]
    rows = read("\n".join(f"{word}{separator}O" for word in lines))
    assert rows == [{"tokens": lines, "ner": ["O"] * 5}]


def test_a_hash_and_a_tag_at_the_start_of_a_row_are_a_word(read):
    assert read("a O\n\n# B-X\nb O\n")[1] == {"tokens": ["#", "b"], "ner": ["B-X", "O"]}


def test_a_hashtag_without_a_tag_inside_a_row_is_refused(read):
    with pytest.raises(ValueError, match=r"a\.conll:2: expected at least 2 columns, found 1: '#sale'"):
        read("a O\n#sale\nb O\n")


def test_a_broken_line_breaks_only_its_row(tmp_path):
    path = tmp_path / "a.conll"
    path.write_bytes(b"a O\nb\nc O\n\nd O\n\n\xff O\ne O\n\nf O\n")
    file = ChunkedFile(path, None, NER)
    rows = [row for chunk in file for row in file.parse(chunk)]
    assert [row.row and row.row["tokens"] for row in rows] == [None, ["d"], None, ["f"]]
    assert rows[0].reason == f"{path}:2: expected at least 2 columns, found 1: 'b'."


@pytest.mark.parametrize(("name", "format"), [("a.conllu", None), ("a.conll", None), ("a.txt", "conllu")])
def test_lines_of_conllu_that_are_no_words_are_left_out_and_counted(name, format, read, caplog):
    (row,) = read(CONLLU, {"pos": 3}, name, format)
    assert row == {"tokens": ["Geh", "zu", "dem"], "pos": ["VERB", "ADP", "DET"]}
    assert "no words (as 2-3 and 4.1) and are left out: 2, the first is line 3" in caplog.text
    assert ("read as CoNLL-U" in caplog.text) == (name == "a.conll")


def test_numbers_with_hyphens_are_words_of_other_files(read):
    assert read("2-3 O\n4.1 O\n")[0]["tokens"] == ["2-3", "4.1"]


def test_a_language_before_each_word_is_left_out_and_named(read, caplog):
    assert read("fr:Mira\tB-PER\nfr:a:b\tO\n\nfr:Varn\tB-LOC\n") == [
        {"tokens": ["Mira", "a:b"], "ner": ["B-PER", "O"]},
        {"tokens": ["Varn"], "ner": ["B-LOC"]},
    ]
    assert "'fr:' before each word is left out" in caplog.text


@pytest.mark.parametrize("text", ["fr:Mira O\nnow O\n", "fr:Mira O\nen:a O\n", "fr: O\nfr: O\n", "fr:Mira O\n"])
def test_words_with_a_colon_stay_as_they_are(text, read):
    assert read(text)[0]["tokens"] == [line.split()[0] for line in text.splitlines()]


@pytest.mark.parametrize("blank", ["\u00a0", " \t ", "\u2003", "\u00a0\u00a0"])
def test_a_line_of_white_space_ends_a_row(blank, read):
    assert [row["tokens"] for row in read(f"a\tO\n{blank}\nb\tO\n")] == [["a"], ["b"]]


def test_blanks_before_a_tab_are_no_part_of_a_word(read):
    assert read("Mira  \tB-PER\nruns  \tO\n") == [{"tokens": ["Mira", "runs"], "ner": ["B-PER", "O"]}]


def test_tabs_and_then_blanks_name_the_option(read):
    text = "Mira\tB-PER\nruns O\n"
    with pytest.raises(ValueError, match=r"a\.conll:2: .*for any white space, give `delimiter: ' '`"):
        read(text)
    assert read(text, delimiter=" ")[0]["ner"] == ["B-PER", "O"]


def test_several_tabs_name_the_option(read):
    text = "Mira\t\tB-PER\nto\t\t\tO\n"
    with pytest.raises(ValueError, match=r"a\.conll:1: a cell is empty: .*give `delimiter: ' '`"):
        read(text)
    assert read(text, delimiter=" ")[0] == {"tokens": ["Mira", "to"], "ner": ["B-PER", "O"]}
