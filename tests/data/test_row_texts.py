"""Texts of prepared rows."""

from hf_multitask import prepare_datasets
from hf_multitask.data.row_texts import RowTexts
from tests.tiny import ROWS


def test_rows_have_their_own_texts(data):
    texts = data.texts
    assert texts.keys() == {"validation", "test"}
    assert [len(texts[split]) for split in texts] == [10, 12]
    assert [texts["test"][i].text for i in range(12)] == [" ".join(row["tokens"]) for row in ROWS[10:]]


def test_words_have_their_positions_in_the_text(tokenizer, tasks):
    rows = [{"text": "in  Paris, today", "intent": "a", "slots": [{"start": 4, "end": 9, "label": "place"}]}]
    text = prepare_datasets({"train": rows, "test": rows}, tokenizer, tasks).texts["test"][0]
    assert text.text == "in  Paris, today"
    assert [(word.text, word.start) for word in text.words] == [("in", 0), ("Paris", 4), (",", 9), ("today", 11)]


def test_a_text_that_is_not_split_is_one_word(tokenizer, tasks):
    rows = [{"text": "in Paris", "intent": "a"}]
    text = prepare_datasets({"train": rows, "test": rows}, tokenizer, tasks[:1]).texts["test"][0]
    assert [word.text for word in text.words] == ["in Paris"]


def test_words_win_over_a_different_text():
    texts = RowTexts()
    texts.add([{"text": "something else", "tokens": ["in", "Paris"], "text_pair": "there"}])
    assert (texts[0].text, texts[0].text_pair) == ("in Paris", "there")


def test_a_pair_has_both_texts():
    texts = RowTexts()
    texts.add([{"text": "in Paris", "text_pair": "in Rome"}, {"text": "alone"}])
    assert [texts[i].text_pair for i in range(2)] == ["in Rome", None]


def test_the_rows_of_several_datasets_are_concatenated(tokenizer, tasks):
    data = prepare_datasets({"train": ROWS}, tokenizer, tasks)
    assert not data.texts
    texts = RowTexts()
    texts.add([{"tokens": ["a"]}])
    texts.add([{"text": "b"}, {"tokens": ["c", "d"]}])
    assert [texts[i].text for i in range(len(texts))] == ["a", "b", "c d"]
