"""Predictions: one label per word, and entities as slices of the given text."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.decoding import decode, label_probabilities, log_tag_probabilities, tag_probabilities
from hf_multitask.models.heads_crf import CRF
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


def calibrated(model, temperature):
    """Set the temperature of all tasks that have scores."""
    for task in model.config.tasks:
        if task.problem_type != "regression":
            task.temperature = temperature


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0, 20.0])
@pytest.mark.parametrize("crf", [False, True])
def test_a_temperature_changes_scores_and_no_label(temperature, crf, encoders):
    torch.manual_seed(0)
    tasks = [replace(task, crf=crf) if task.is_token_task else task for task in TASKS]
    model = MultiTaskModel.from_encoder(encoders["bert"], tasks)
    for name, std in (("slots", 2.0), ("intent", 1.0), ("topics", 1.0)):
        torch.nn.init.normal_(model.heads[name].classifier.weight, std=std)
    torch.nn.init.constant_(model.heads["topics"].classifier.bias, 1.0)
    for crf_of_task in model.crfs.values():
        torch.nn.init.normal_(crf_of_task.transitions)
    tokenizer = load_tokenizer(encoders["bert"])
    before, ranked = predict(model, tokenizer, SENTENCES), predict(model, tokenizer, SENTENCES, top_k=3)
    calibrated(model, temperature)
    after, ranked_after = predict(model, tokenizer, SENTENCES), predict(model, tokenizer, SENTENCES, top_k=3)
    assert without_scores(before) == without_scores(after)
    assert without_scores(ranked) == without_scores(ranked_after)
    assert [row["grade"] for row in before] == [row["grade"] for row in after]
    for name in ("intent", "topics", "slots"):
        assert [row[name] for row in before] != [row[name] for row in after]
    highest = [(row["intent"]["score"], calm["intent"]["score"]) for row, calm in zip(before, after, strict=True)]
    assert all((sharp < calm) == (temperature < 1) for sharp, calm in highest)
    entities = [entity for row in after for entity in row["slots"]["entities"]]
    assert entities
    assert all(0 <= entity["score"] <= 1 for entity in entities)


def without_scores(value):
    if isinstance(value, dict):
        return {key: without_scores(item) for key, item in value.items() if key not in ("score", "scores")}
    return [without_scores(item) for item in value] if isinstance(value, list) else value


def test_scores_are_those_of_the_logits_divided_by_the_temperature(models):
    task = replace(TASKS[0], temperature=2.5)
    logits = 5 * torch.randn(4, 3)
    assert torch.equal(label_probabilities(task, logits), (logits / 2.5).softmax(-1))
    assert torch.equal(label_probabilities(TASKS[0], logits), logits.softmax(-1))
    topics = replace(TASKS[1], temperature=0.5)
    assert torch.equal(label_probabilities(topics, logits[:, :2]), (logits[:, :2] / 0.5).sigmoid())
    slots, words = replace(TASKS[3], temperature=2.0), 5 * torch.randn(2, 4, 5)
    ids, positions = torch.randint(5, (2, 4)), torch.zeros(2, 4, dtype=torch.long)
    expected = (words / 2).softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(tag_probabilities(slots, words, ids, positions), expected)


def test_the_temperature_of_a_crf_is_that_of_its_marginals():
    task = replace(TASKS[3], crf=True)
    crf = CRF(5)
    torch.nn.init.normal_(crf.transitions)
    logits, positions = torch.randn(2, 4, 5), torch.zeros(2, 4, dtype=torch.long)
    ids = decode(task, logits, positions, crf)
    marginals = log_tag_probabilities(task, logits, positions, crf)
    found = tag_probabilities(replace(task, temperature=2.0), logits, ids, positions, crf)
    expected = (marginals / 2).softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(found, expected)
    assert torch.equal(decode(replace(task, temperature=2.0), logits, positions, crf), ids)
