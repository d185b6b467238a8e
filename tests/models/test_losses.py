"""Class weights and label smoothing in the losses."""

import math

import pytest
import torch
from torch.nn import functional

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.losses import _weight_vector, count_labeled, example_losses, ignore_labels
from tests.tiny import SENTENCES

NAN = math.nan
INTENT = TaskConfig(
    "intent",
    "sequence_classification",
    labels=["a", "b", "c"],
    class_weights={"a": 0.5, "c": 3.0},
    label_smoothing=0.1,
)
TOPICS = TaskConfig(
    "topics",
    "sequence_classification",
    labels=["x", "y"],
    problem_type="multi_label_classification",
    class_weights={"y": 4.0},
    label_smoothing=0.2,
)
SLOTS = TaskConfig(
    "slots",
    "token_classification",
    labels=["O", "B-x", "I-x"],
    class_weights={"O": 0.2, "x": 2.0},
    label_smoothing=0.3,
)
TASKS = [INTENT, TOPICS, SLOTS]


def intent(**given):
    return TaskConfig("intent", "sequence_classification", labels=["a", "b", "c"], **given)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, {"a": 0.5, "b": 1.0, "c": 3.0}])
def test_one_label_of_several_is_torchs_cross_entropy(weights, smoothing):
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, -100, 2])
    found = example_losses(intent(class_weights=weights, label_smoothing=smoothing), logits, labels)
    vector = None if weights is None else torch.tensor([0.5, 1.0, 3.0])
    expected = functional.cross_entropy(logits, labels, weight=vector, label_smoothing=smoothing, reduction="none")
    assert torch.equal(found, expected)
    assert found[3] == 0


def test_a_smoothed_and_weighted_loss_is_the_formula_of_the_paper_and_of_torch():
    # (1 - s) w_y nll_y + s / k sum_c w_c nll_c
    logits, weights = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([0.5, 1.0, 3.0])
    nll = -logits.log_softmax(-1)[0]
    expected = 0.9 * 3.0 * nll[2] + 0.1 / 3 * (weights * nll).sum()
    assert torch.allclose(example_losses(INTENT, logits, torch.tensor([2])), expected)


def test_words_are_weighted_by_their_tag_and_padding_counts_nothing():
    logits, labels = torch.randn(2, 3, 3), torch.tensor([[0, 1, 2], [0, -100, -100]])
    found = example_losses(SLOTS, logits, labels)
    expected = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), torch.tensor([0.2, 2.0, 2.0]), label_smoothing=0.3, reduction="none"
    ).view(2, 3)
    assert torch.allclose(found, expected.sum(1))
    assert (expected[labels == -100] == 0).all()


def test_several_labels_weigh_their_presence_and_smooth_towards_a_half():
    logits, labels = torch.randn(3, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0], [NAN, NAN]])
    found = example_losses(TOPICS, logits, labels)
    smooth = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    yes, no = functional.logsigmoid(logits[:2]), functional.logsigmoid(-logits[:2])
    expected = -(torch.tensor([1.0, 4.0]) * smooth * yes + (1 - smooth) * no)
    assert torch.allclose(found, torch.cat([expected.sum(1), torch.zeros(1)]))


def test_without_weights_and_smoothing_several_labels_are_plain_binary_cross_entropy():
    task = TaskConfig("topics", "sequence_classification", ["x", "y"], problem_type="multi_label_classification")
    logits, labels = torch.randn(2, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    expected = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)
    assert torch.equal(example_losses(task, logits, labels), expected)


def test_weights_of_one_are_no_weights():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, -100])
    assert torch.equal(
        example_losses(intent(class_weights={}), logits, labels), example_losses(intent(), logits, labels)
    )


def test_balanced_weights_that_are_not_worked_out_are_refused():
    with pytest.raises(ValueError, match=r"task 'intent': class_weights='balanced' has not been computed yet: take"):
        example_losses(intent(class_weights="balanced"), torch.randn(1, 3), torch.tensor([0]))


def test_weights_are_made_once_and_also_serve_training_after_inference():
    _weight_vector.cache_clear()
    logits, labels = torch.randn(2, 3), torch.tensor([0, 2])
    with torch.inference_mode():
        example_losses(INTENT, logits, labels)
    logits.requires_grad_()
    example_losses(INTENT, logits, labels).sum().backward()
    assert logits.grad.isfinite().all()
    assert _weight_vector.cache_info().misses == 1


def test_weights_follow_the_logits_to_their_device():
    logits = torch.empty(2, 3, device="meta")
    losses = example_losses(INTENT, logits, torch.zeros(2, dtype=torch.long, device="meta"))
    assert losses.shape == (2,)
    assert losses.device.type == "meta"


@pytest.fixture
def batch(encoder):
    return load_tokenizer(encoder)(SENTENCES, padding=True, return_tensors="pt")


@pytest.fixture
def labels(batch):
    size, length = batch["input_ids"].shape
    slots = torch.randint(0, 3, (size, length))
    slots[batch["attention_mask"] == 0] = -100
    slots[5] = -100
    topics = torch.randint(0, 2, (size, 2)).float()
    topics[2] = NAN
    return {"intent": torch.tensor([0, 1, 2, 2, -100, -100, -100, 0]), "topics": topics, "slots": slots}


def rows(values, start, size):
    return {name: value[start : start + size] for name, value in values.items()}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation_changes_neither_losses_nor_gradients(size, encoder, batch, labels):
    model = MultiTaskModel.from_encoder(encoder, TASKS).eval()
    whole = model(**batch, labels=labels)
    whole.loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    counts = {task.name: count_labeled(task, labels[task.name]).sum() for task in TASKS}
    losses = dict.fromkeys(counts, 0.0)
    for start in range(0, len(SENTENCES), size):
        part = model(**rows(batch, start, size), labels=rows(labels, start, size), num_items_in_batch=counts)
        part.loss.backward()
        losses = {name: losses[name] + part.losses[name].item() for name in losses}
    assert losses == pytest.approx({name: loss.item() for name, loss in whole.losses.items()}, rel=1e-5)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_torchs_own_mean_depends_on_how_a_batch_is_cut():
    """The check above fails if sums are divided by the weights, which is why they are not."""
    logits, labels, weights = torch.randn(4, 3), torch.tensor([0, 0, 2, 2]), torch.tensor([0.5, 1.0, 3.0])
    whole = functional.cross_entropy(logits, labels, weights)
    halves = [functional.cross_entropy(logits[i : i + 2], labels[i : i + 2], weights) for i in (0, 2)]
    assert not torch.allclose(whole, sum(halves) / 2)


def test_a_saved_model_keeps_weights_and_smoothing_and_has_no_new_tensors(encoder, batch, labels, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, TASKS).eval()
    plain = [TaskConfig(task.name, task.type, task.labels, problem_type=task.problem_type) for task in TASKS]
    assert model.state_dict().keys() == MultiTaskModel.from_encoder(encoder, plain).state_dict().keys()
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert loaded.config.tasks == [task.with_defaults() for task in TASKS]
    assert loaded.config.tasks[2].class_weights == {"O": 0.2, "B-x": 2.0, "I-x": 2.0}
    for name, loss in model(**batch, labels=labels).losses.items():
        assert torch.equal(loaded(**batch, labels=labels).losses[name], loss)


def test_ignored_labels_have_the_shape_of_labels_and_count_for_no_loss():
    score = TaskConfig("score", "sequence_classification", labels=["x", "y"], problem_type="regression")
    tasks = [INTENT, TOPICS, SLOTS, score]
    labels = {
        "intent": torch.tensor([0, 2]),
        "topics": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "slots": torch.tensor([[0, 1, -100], [2, 0, 1]]),
        "score": torch.tensor([[0.5, 1.0], [2.0, 0.0]]),
    }
    ignored = ignore_labels(tasks, labels)
    for task in tasks:
        found, given = ignored[task.name], labels[task.name]
        assert (found.shape, found.dtype) == (given.shape, given.dtype)
        assert count_labeled(task, given).tolist() != [0, 0]
        assert count_labeled(task, found).tolist() == [0, 0]
        logits = torch.randn(*(given.shape if given.is_floating_point() else (*given.shape, 3)), requires_grad=True)
        losses = example_losses(task, logits, found)
        losses.sum().backward()
        assert losses.tolist() == [0.0, 0.0]
        assert not logits.grad.any()
