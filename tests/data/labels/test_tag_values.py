"""Tags and spans as files have them: other names of `O`, ids, blanks, cells, offsets of words, repeated spans."""

import pytest

from hf_multitask import DataConfig, TaskConfig
from hf_multitask.data.preparation import load_datasets

WORDS = ["Mira", "Kessel", "runs", "in", "Varn"]
WORD_SPANS = {
    "text": "now Mira Kessel of Orvex Works speaks",
    "tokens": ["now", "Mira", "Kessel", "of", "Orvex", "Works", "speaks"],
}


def ner(**fields):
    return TaskConfig("ner", "token_classification", **fields)


def load(rows, task=None, **options):
    """Return the completed task, and the tags of each row."""
    (loader,), (task,) = load_datasets([DataConfig(train=rows, **options)], [task or ner()])
    loader.encode(loader.splits["train"], [task])
    tags = [[None if i < 0 else task.labels[i] for i in row["ner"]] for row in loader.splits["train"].labels]
    return task, tags, loader


def tagged(*tags):
    return [{"tokens": WORDS[: len(tags)], "ner": list(tags)}]


# The tag of words outside


@pytest.mark.parametrize("outside", ["0", "_", "o", "-"])
def test_usual_names_of_o_are_recognized_and_named(outside, caplog):
    task, tags, _ = load(tagged("PER", "PER", outside, outside, "LOC"))
    assert tags == [["B-PER", "I-PER", "O", "O", "B-LOC"]]
    assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


@pytest.mark.parametrize("outside", ["0", "_", "o", "OTHER", "none"])
def test_a_bare_name_of_o_among_prefixes_is_recognized(outside):
    assert load(tagged("B-PER", "I-PER", outside, outside, "B-LOC"))[1] == [["B-PER", "I-PER", "O", "O", "B-LOC"]]
    assert load(tagged("S-PER", outside, "B-LOC", "E-LOC"))[0].tag_scheme == "BIOES"


@pytest.mark.parametrize("tags", [("PER", "OTHER", "OTHER"), ("NOUN", "VERB", "DET"), ("PER", "none")])
def test_types_without_o_are_refused_with_the_candidates(tags):
    with pytest.raises(
        ValueError, match=r"no tag is 'O', .*Give `outside_tag`.*If every word has a type.*`outside_tag: O`"
    ):
        load(tagged(*tags))
    assert load(tagged(*tags), outside_tag="O")[1] == [
        [f"B-{tags[0]}", f"B-{tags[1]}"] + [f"{'I' if tag == tags[1] else 'B'}-{tag}" for tag in tags[2:]]
    ]


def test_a_given_outside_tag_is_read_besides_o():
    assert load(tagged("PER", "OTHER", "O"), outside_tag="OTHER")[1] == [["B-PER", "O", "O"]]


def test_other_unknown_tags_are_still_refused():
    with pytest.raises(ValueError, match="the tags fit none of the schemes"):
        load(tagged("B-PER", "O", "o"))
    with pytest.raises(ValueError, match="the tags fit none of the schemes"):
        load(tagged("B-PER", "PERSON"))


# Ids and blanks


@pytest.mark.parametrize("ids", [(1, 2, 0), ("1", "2", "0"), (1.0, 2.0, 0.0)])
def test_ids_of_tags_are_positions_in_labels(ids):
    assert load(tagged(*ids), ner(labels=["O", "B-PER", "I-PER"]))[1] == [["B-PER", "I-PER", "O"]]


@pytest.mark.parametrize("missing", [-100, -1, float("nan"), None])
def test_words_without_a_tag_have_no_label(missing):
    assert load(tagged(1, missing, 0), ner(labels=["O", "B-PER", "I-PER"]))[1] == [["B-PER", None, "O"]]


def test_ids_without_labels_are_refused_with_the_option():
    with pytest.raises(ValueError, match=r"row 0: .*expected the name of a tag, found 1 .*give the task's `labels`"):
        load(tagged(1, 0))
    with pytest.raises(ValueError, match=r"the tags are numbers: '1' \(1 words\), '0' \(1 words\)\. Give .*`labels`"):
        load(tagged("1", "0"))


def test_blanks_around_tags_are_no_part_of_them():
    task, tags, _ = load(tagged(" B-PER", "I-PER ", "\u00a0O"))
    assert (tags, task.labels) == ([["B-PER", "I-PER", "O"]], ["O", "B-PER", "I-PER"])
    spans = [{"text": "Mira runs", "ner": [[0, 4, "PER "]]}, {"text": "Jo runs", "ner": [[0, 2, "PER"]]}]
    assert load(spans)[0].labels == ["O", "B-PER", "I-PER"]


@pytest.mark.parametrize("name", ["Per", "P-ER"])
def test_entity_types_that_differ_in_spelling_are_named(name):
    (remark,) = load(tagged("B-PER", f"B-{name}"))[2].remarks()
    assert f"'PER' (1 times), {name!r} (1 times) differ only in spelling" in remark


def test_a_task_without_an_entity_is_named():
    (remark,) = load(tagged("O", "O"))[2].remarks()
    assert "no word is in an entity" in remark


# Cells


@pytest.mark.parametrize("cell", ['["B-PER", "O"]', "['B-PER', 'O']", "B-PER O", " B-PER  O "])
def test_tags_in_a_cell_are_a_list_or_parted_by_blanks(cell):
    assert load([{"tokens": ["Mira", "runs"], "ner": cell}])[1] == [["B-PER", "O"]]


@pytest.mark.parametrize(
    "value",
    [
        '[{"start": 0, "end": 4, "text": "Mira", "labels": ["PER"]}]',
        "[(0, 4, 'PER')]",
        {"start": [0], "end": [4], "label": ["PER"]},
        ((0, 4, "PER"),),
    ],
)
def test_spans_are_read_in_each_form(value):
    assert load([{"text": "Mira runs", "ner": value}])[1] == [["B-PER", "O"]]


@pytest.mark.parametrize("cell", ["[" * 3000 + "]", "[1, }]", "['B-PER' 'O']"])
def test_a_cell_that_is_no_list_is_refused_with_its_row(cell):
    with pytest.raises(ValueError, match=r"train, row 0: column 'ner': expected a JSON list, found ['\"]\["):
        load([{"tokens": ["Mira", "runs"], "ner": cell}])


# Spans


def test_spans_that_are_repeated_are_counted_and_left_out():
    _, tags, loader = load([{"text": "Mira runs", "ner": [[0, 4, "PER"], [0, 4, "PER"], [0, 4, "PER"]]}])
    assert tags == [["B-PER", "O"]]
    assert loader.splits["train"].report.repeated_spans == {"ner": 2}
    with pytest.raises(ValueError, match="overlap"):
        load([{"text": "Mira runs", "ner": [[0, 4, "PER"], [0, 4, "ORG"]]}])


def test_a_span_of_white_space_is_dropped_and_counted_or_refused():
    rows = [{"text": "Mira   runs", "ner": [[4, 7, "X"], [0, 4, "PER"]]}]
    _, tags, loader = load(rows, span_mismatch="drop")
    assert tags == [["B-PER", "O"]]
    assert loader.splits["train"].report.mismatched_spans == {"ner": 1}
    for mismatch in ("widen", "error"):
        with pytest.raises(ValueError, match=r"contains only white space; .*`span_mismatch: drop` leaves it out"):
            load(rows, span_mismatch=mismatch)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(
    ("unit", "spans"),
    [("words", [[1, 3, "PER"], [4, 6, "ORG"]]), ("words_inclusive", [[1, 2, "PER"], [4, 5, "ORG"]])],
)
def test_spans_may_count_words(unit, spans, text):
    row = {**WORD_SPANS, "ner": spans} if text else {"tokens": WORD_SPANS["tokens"], "ner": spans}
    expected = [["O", "B-PER", "I-PER", "O", "B-ORG", "I-ORG", "O"]]
    assert load([row], span_unit=unit)[1] == expected
    keyed = [dict(zip(("start", "end", "label"), span, strict=True)) for span in spans]
    assert load([{**row, "ner": keyed}], span_unit=unit)[1] == expected
    with pytest.raises(
        ValueError, match=r"row 0: .*seem to count words, .*`span_unit: words` .*`span_unit: words_incl"
    ):
        load([row])


def test_spans_of_words_are_checked():
    with pytest.raises(ValueError, match=r"span 0, \[5, 8, 'X'\], ends after the last of 7 words"):
        load([{**WORD_SPANS, "ner": [[5, 8, "X"]]}], span_unit="words")
    with pytest.raises(ValueError, match="span_unit='words' needs the words, in a column 'tokens'"):
        load([{"text": "Mira runs", "ner": [[0, 1, "X"]]}], span_unit="words")
    with pytest.raises(ValueError, match=r"unknown span_unit 'word'\. Did you mean 'words'"):
        DataConfig(train="a.jsonl", span_unit="word")


def test_spans_of_characters_in_rows_of_words_stay_spans_of_characters():
    rows = [{**WORD_SPANS, "ner": [[4, 15, "PER"]]}, {"text": "Jo is", "tokens": ["Jo", "is"], "ner": [[0, 2, "PER"]]}]
    assert load(rows)[1] == [["O", "B-PER", "I-PER", "O", "O", "O", "O"], ["B-PER", "O"]]
