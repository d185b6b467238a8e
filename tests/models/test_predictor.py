"""Predictions: one label per word, and entities as slices of the given text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from tests.predictions import predict
from tests.tiny import ARCHITECTURES, SENTENCES

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
]


def eager_model(folder):
    """Return a model whose random heads are scaled so that they predict many entities."""
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(folder, TASKS)
    torch.nn.init.normal_(model.heads["slots"].classifier.weight, std=2.0)
    return model, load_tokenizer(folder)


@pytest.fixture(scope="module")
def models(encoders):
    return {name: eager_model(encoders[name]) for name in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@given(text=st.text(min_size=1).filter(str.strip))
def test_an_entity_is_a_slice_of_the_text(architecture, models, text):
    prediction = predict(*models[architecture], [text])[0]["slots"]
    for entity in prediction["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert entity["text"] == entity["text"].strip() != ""
        assert 0 <= entity["score"] <= 1


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@given(tokens=st.lists(st.text(max_size=8), min_size=1, max_size=60))
def test_one_label_per_word_whatever_the_tokenizer_drops_or_cuts(architecture, models, tokens):
    prediction = predict(*models[architecture], [{"tokens": tokens}])[0]["slots"]
    assert len(prediction["labels"]) == len(tokens)
    joined = " ".join(tokens)
    for entity in prediction["entities"]:
        assert joined[entity["start"] : entity["end"]] == entity["text"]


def test_the_models_do_find_entities(models):
    assert any(prediction["slots"]["entities"] for prediction in predict(*models["bert"], SENTENCES))


def test_words_with_their_text_give_positions_in_the_text(models):
    row = {"text": "Play  it,\nin paris!", "tokens": ["Play", "it", ",", "in", "paris", "!"]}
    prediction = predict(*models["bert"], [row])[0]["slots"]
    without_text = predict(*models["bert"], [{"tokens": row["tokens"]}])[0]["slots"]
    assert prediction["labels"] == without_text["labels"]
    assert prediction["entities"]
    for entity in prediction["entities"]:
        assert row["text"][entity["start"] : entity["end"]] == entity["text"]


def test_the_form_of_each_kind_of_task(models):
    prediction = predict(*models["bert"], ["play some music"])[0]
    assert prediction.keys() == {"intent", "topics", "grade", "slots"}
    assert prediction["intent"]["label"] in "abc"
    assert 1 / 3 <= prediction["intent"]["score"] <= 1
    assert len(prediction["topics"]["labels"]) == len(prediction["topics"]["scores"])
    assert isinstance(prediction["grade"]["value"], float)
    assert len(prediction["slots"]["labels"]) == 3


def test_order_and_batch_size_change_nothing(models):
    expected = predict(*models["bert"], SENTENCES, batch_size=1)
    for batch_size in (3, 100):
        for one, other in zip(expected, predict(*models["bert"], SENTENCES, batch_size=batch_size), strict=True):
            assert one["slots"]["labels"] == other["slots"]["labels"]
            assert one["intent"]["label"] == other["intent"]["label"]
            assert one["intent"]["score"] == pytest.approx(other["intent"]["score"], abs=1e-5)


def test_a_word_that_is_not_in_the_text_is_refused(models):
    with pytest.raises(ValueError, match="input 0: word 0 of `tokens`, 'stop', does not occur in `text`"):
        predict(*models["bert"], [{"text": "play", "tokens": ["stop"]}])


def test_a_row_without_text_is_refused(models):
    with pytest.raises(ValueError, match="input 1: expected a column 'tokens' or 'text', found 'sentence'"):
        predict(*models["bert"], ["play", {"sentence": "stop"}])
