"""Tags of every scheme become IOB2, and tags that break their scheme are counted or refused."""

import copy

import pytest

from hf_multitask import MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.models.tags_schemes import from_iob2
from tests.tiny import ROWS

# Two adjacent entities of one type distinguish IOB1 from the other schemes; raw types would merge them.
NEIGHBOURS = {"tokens": ["paris", "london", "rain"], "intent": "GetWeather", "slots": ["B-place", "B-place", "O"]}


def slots(**given):
    return TaskConfig("slots", "token_classification", **given)


def rows_in(scheme):
    rows = ROWS if scheme == "raw" else [*ROWS, NEIGHBOURS]
    return [{**row, "slots": from_iob2(row["slots"], scheme)} for row in rows]


def prepared(rows, tokenizer, task=None, **splits):
    return prepare_datasets({"train": rows, **splits}, tokenizer, [task or slots()])


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BILOU", "BIOES", "raw"])
def test_each_scheme_gives_the_labels_of_iob2(scheme, tokenizer):
    data = prepared(rows_in(scheme), tokenizer)
    expected = prepared(rows_in("IOB2")[: len(rows_in(scheme))], tokenizer)
    assert data.tasks[0].tag_scheme == scheme
    assert data.tasks[0].labels == expected.tasks[0].labels == ["O", "B-place", "I-place"]
    assert data["train"]["labels"] == expected["train"]["labels"]


def test_the_scheme_of_train_applies_to_all_splits(tokenizer):
    only_one_word = [{"tokens": ["paris"], "slots": ["I-place"]}]
    data = prepared(rows_in("IOB1"), tokenizer, validation=only_one_word)
    assert data["validation"][0]["labels"]["slots"] == [1]
    assert data.reports["validation"].broken_tags == {"slots": 0}


BROKEN = [*ROWS, {"tokens": ["in", "paris"], "slots": ["O", "I-place"]}]


def test_broken_tags_are_read_as_conlleval_does_and_counted(tokenizer, caplog):
    data = prepared(BROKEN, tokenizer)
    assert data["train"][len(ROWS)]["labels"]["slots"] == [0, 1]
    assert "1 of 23 rows have tags of 'slots' that break their scheme's rule" in caplog.text


def test_broken_tags_are_refused_with_strict_tags(tokenizer, write_jsonl):
    message = (
        r"rows\.jsonl:23: column 'slots': 'I-place' \(word 1, 'paris'\) breaks the rule of IOB2; expected 'B-place'"
    )
    with pytest.raises(ValueError, match=message):
        prepared(write_jsonl(BROKEN), tokenizer, slots(strict_tags=True))


def test_ids_without_names_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"train, row 0: column 'slots': expected the name of a tag, found 1 "):
        prepared([{"tokens": ["paris"], "slots": [1]}], tokenizer)


def test_the_rows_of_the_caller_are_unchanged(tokenizer):
    rows = rows_in("BILOU")
    before = copy.deepcopy(rows)
    prepared(rows, tokenizer)
    assert rows == before


def test_a_saved_model_knows_the_scheme_of_its_data(encoder, tokenizer, tmp_path):
    data = prepared(rows_in("BIOES"), tokenizer)
    MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained(tmp_path)
    tasks = MultiTaskModel.from_pretrained(tmp_path).config.tasks
    assert tasks[0].tag_scheme == "BIOES"
    again = prepare_datasets({"test": rows_in("BIOES")}, tokenizer, tasks)
    assert again["test"]["labels"] == data["train"]["labels"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "token_classification", "tag_scheme": "BILO"}, "unknown tag scheme 'BILO'"),
        ({"type": "sequence_classification", "tag_scheme": "IOB2"}, "tag_scheme and strict_tags are for token tasks"),
        ({"type": "sequence_classification", "strict_tags": True}, "tag_scheme and strict_tags are for token tasks"),
    ],
)
def test_a_scheme_that_a_task_cannot_have_is_refused(given, message):
    with pytest.raises(ValueError, match=rf"task 'x': {message}"):
        TaskConfig("x", **given)
