"""Temperatures are those that make the scores of labeled rows probable, and the trainer sets them."""

import logging

import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.models.heads_crf import CRF
from hf_multitask.training.temperature import HIGHEST, LOWEST, MAX_ROWS, LogitCollector, sample_rows
from tests.trainers import make_trainer

INTENT = TaskConfig("intent", "sequence_classification", ["a", "b", "c"], problem_type="single_label_classification")
TOPICS = TaskConfig("topics", "sequence_classification", ["x", "y"], problem_type="multi_label_classification")
TYPES = [f"{prefix}-{kind}" for kind in "xy" for prefix in "BI"]
SLOTS = TaskConfig("slots", "token_classification", ["O", *TYPES])
CRF_SLOTS = TaskConfig("slots", "token_classification", ["O", *TYPES], crf=True)
GRADE = TaskConfig("grade", "sequence_classification", problem_type="regression")


def fit(task, logits, labels, positions=None, crfs=None):
    collector = LogitCollector([task], crfs or {})
    # In batches, as in an evaluation.
    for rows in torch.arange(len(logits)).chunk(7):
        part = None if positions is None else positions[rows]
        collector.add({task.name: logits[rows]}, {task.name: labels[rows]}, part)
    return collector.fit()[task.name]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature):
    logits = 3 * torch.randn(20_000, 3)
    labels = torch.multinomial((logits / temperature).softmax(1), 1).squeeze(1)
    found = fit(INTENT, logits, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.items == 20_000
    assert found.error_after < 0.02
    assert found.error_after <= found.error_before + 0.002
    topics = torch.bernoulli((logits[:, :2] / temperature).sigmoid())
    assert fit(TOPICS, logits[:, :2], topics).temperature == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("task", [SLOTS, CRF_SLOTS], ids=["tags", "crf"])
def test_entities_are_right_as_often_as_their_scores_say(task):
    """Texts of one word: each is an entity or not, and its score the probability of its tag."""
    temperature = 2.0
    logits = 4 * torch.randn(20_000, 1, 5)
    logits[..., [2, 4]] = -torch.inf  # I- tags cannot begin a text
    labels = torch.multinomial((logits[:, 0] / temperature).softmax(1), 1)
    positions = torch.zeros(20_000, 1, dtype=torch.long)
    found = fit(task, logits, labels, positions, {"slots": CRF(5)})
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.items == (logits.argmax(-1) > 0).sum()
    assert found.error_after < 0.02 < found.error_before


def test_few_rows_and_rows_that_are_all_right_have_a_temperature_within_bounds():
    logits = torch.tensor([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])
    found = fit(INTENT, logits, torch.tensor([0, 1, 2]))
    # With three rows a score near 1 is not justified: Laplace's rule of succession gives 4 / 5.
    assert LOWEST < found.temperature < HIGHEST
    assert 0.75 < (logits[0] / found.temperature).softmax(0)[0] < 0.95


def test_tasks_without_labels_or_entities_are_not_fitted():
    assert fit(INTENT, torch.randn(3, 3), torch.full((3,), -100)) is None
    outside = torch.zeros(2, 4, 5)
    outside[..., 0] = 9
    assert fit(SLOTS, outside, torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long)) is None
    assert LogitCollector([GRADE], {}).fit() == {}


def test_the_trainer_sets_the_temperatures_and_keeps_labels_and_losses(model, data, tokenizer, tmp_path, caplog):
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    before = trainer.predict(data["validation"])
    with caplog.at_level(logging.INFO, "hf_multitask"):
        fits = trainer.calibrate()
    assert {task.name: task.temperature for task in model.config.tasks} == {
        name: found.temperature for name, found in fits.items()
    }
    assert fits["intent"].temperature != 1
    assert f"Task 'intent': temperature {fits['intent'].temperature:.3g}; expected" in caplog.text
    after = trainer.predict(data["validation"])
    for name in ("intent", "slots"):
        for key in ("ids", "loss", "count"):
            assert (before.predictions[name][key] == after.predictions[name][key]).all()
    assert not (before.predictions["intent"]["score"] == after.predictions["intent"]["score"]).all()
    assert after.metrics["test_intent_ece"] == pytest.approx(fits["intent"].error_after, abs=1e-5)
    assert after.metrics["test_intent_nll"] <= before.metrics["test_intent_nll"] + 0.05


def test_a_calibration_needs_rows(model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, {"train": data["train"]}, tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"dataset: expected a dataset of labeled rows, found nothing"):
        trainer.calibrate()


def test_of_many_rows_a_part_is_enough(data):
    rows = data["train"].select([0] * (MAX_ROWS + 1))
    assert len(sample_rows(rows)) == MAX_ROWS
    assert sample_rows(data["train"]) is data["train"]
