"""Rows out of scope draw the labels to equal probabilities."""

from dataclasses import replace

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.losses import OUT_OF_SCOPE, count_labeled, count_outliers, example_losses, outlier_losses
from tests.tiny import SENTENCES

INTENT = TaskConfig(
    "intent",
    "sequence_classification",
    ["a", "b"],
    problem_type="single_label_classification",
    abstain={"method": "max_softmax"},
)
LABELS = torch.tensor([0, OUT_OF_SCOPE, 1, OUT_OF_SCOPE, -100])


def test_the_loss_is_the_cross_entropy_to_equal_probabilities():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 1.0], [3.0, 1.0], [5.0, 0.0]])
    losses = outlier_losses(INTENT, logits, LABELS)
    expected = -(torch.tensor([3.0, 1.0]).log_softmax(-1).mean())
    assert losses.tolist() == pytest.approx([0, torch.tensor(2.0).log().item(), 0, expected.item(), 0])
    # The labels of rows in scope are the only ones that the other loss and its count see.
    assert example_losses(INTENT, logits, LABELS)[[1, 3]].tolist() == [0, 0]
    assert count_labeled(INTENT, LABELS).tolist() == [1, 0, 1, 0, 0]
    assert count_outliers(INTENT, LABELS) == 2
    assert count_outliers(replace(INTENT, outlier_weight=0.0), LABELS) == 0
    assert count_outliers(replace(INTENT, abstain=None), LABELS) == 0


def test_energy_has_a_loss_that_is_least_without_logits():
    logits = torch.tensor([[2.0, 0.0], [3.0, 1.0], [1.0, 1.0], [0.0, 0.0], [5.0, 0.0]])
    losses = outlier_losses(replace(INTENT, abstain={"method": "energy"}), logits, LABELS)
    assert losses.tolist() == [0, 5, 0, 0, 0]


@pytest.fixture
def model(encoder):
    return MultiTaskModel.from_encoder(encoder, [INTENT]).eval()


def loss_of(model, encoder, rows, weight=None, **options):
    if weight is not None:
        model.config.tasks[0].outlier_weight = weight
    batch = load_tokenizer(encoder)(SENTENCES[:5], return_tensors="pt", padding=True)
    inputs = {name: values[rows] for name, values in batch.items()}
    return model(**inputs, labels={"intent": LABELS[rows]}, **options)


def test_the_mean_of_the_rows_out_of_scope_is_added_with_its_weight(model, encoder):
    rows = torch.arange(5)
    plain = loss_of(model, encoder, rows, weight=0.0)
    exposed = loss_of(model, encoder, rows, weight=0.5)
    mean = outlier_losses(INTENT, exposed.logits["intent"], LABELS)[[1, 3]].mean()
    assert exposed.loss.item() == pytest.approx((plain.loss + 0.5 * mean).item())
    assert plain.loss == example_losses(INTENT, plain.logits["intent"], LABELS).sum() / 2


def test_the_loss_does_not_depend_on_how_a_step_is_cut(model, encoder):
    rows = torch.arange(5)
    whole = loss_of(model, encoder, rows).loss
    items = {"intent": torch.tensor(2), "intent_outliers": torch.tensor(2)}
    parts = [loss_of(model, encoder, part, num_items_in_batch=items).loss for part in (rows[:2], rows[2:])]
    assert sum(parts).item() == pytest.approx(whole.item())


def test_a_weight_below_0_is_refused():
    with pytest.raises(ValueError, match=r"task 'intent': outlier_weight must be a number from 0, found -1"):
        replace(INTENT, outlier_weight=-1)
