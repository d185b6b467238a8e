"""Protection of frozen heads: the distance to the outputs at the start of a stage, and the drift of their inputs."""

import math
from contextlib import nullcontext
from dataclasses import replace

import datasets
import pytest
import torch

from hf_multitask import MultiTaskDataCollator, TaskConfig
from hf_multitask.freezing.distillation import Teacher, count_items, distances, drift, drift_sample

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification")
TOPICS = replace(INTENT, name="topics", problem_type="multi_label_classification")
MOOD = TaskConfig("mood", "sequence_classification", labels=["joy", "fear"], problem_type="regression")
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])


def divergence(teacher, student, temperature):
    """Sum p log(p / q) at a temperature, times its square, in Python numbers."""
    p, q = ([math.exp(x / temperature) for x in values.tolist()] for values in (teacher, student))
    p, q = ([x / sum(values) for x in values] for values in (p, q))
    return temperature**2 * sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def test_classes_have_the_divergence_of_softened_probabilities():
    logits, teacher = torch.randn(3, 2), torch.randn(3, 2)
    expected = [divergence(teacher[i], logits[i], 3.0) for i in range(3)]
    assert distances(INTENT, logits, teacher, {}, temperature=3.0).tolist() == pytest.approx(expected, rel=1e-4)


def test_words_count_and_padding_does_not():
    logits, teacher = torch.randn(2, 3, 3), torch.randn(2, 3, 3)
    batch = {"tag_positions": torch.tensor([[0, 2, 3], [1, -1, -1]])}
    found = distances(SLOTS, logits, teacher, batch, temperature=2.0)
    words = [(0, 0), (0, 1), (0, 2), (1, 0)]
    expected = [divergence(teacher[i, j], logits[i, j], 2.0) for i, j in words]
    assert [found[i, j].item() for i, j in words] == pytest.approx(expected, rel=1e-4)
    assert found[1, 1:].tolist() == [0.0, 0.0]
    assert count_items(SLOTS, batch) == 4


def test_several_labels_have_the_distance_of_their_probabilities():
    logits, teacher = torch.randn(3, 2), torch.randn(3, 2)
    p, q = teacher.sigmoid(), logits.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1)
    assert torch.allclose(distances(TOPICS, logits, teacher, {}), expected, atol=1e-5)
    assert torch.allclose(distances(TOPICS, teacher, teacher, {}), torch.zeros(3), atol=1e-6)


def test_numbers_have_the_squared_error():
    logits, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.5]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert distances(MOOD, logits, teacher, {}).tolist() == [5.0, 0.25]


def test_rows_in_windows_count_once():
    ids = torch.zeros(5, 4, dtype=torch.long)
    assert count_items(INTENT, {"input_ids": ids}) == 5
    assert count_items(INTENT, {"input_ids": ids, "row_windows": torch.zeros(2, 5, dtype=torch.bool)}) == 2


def test_the_distance_is_a_mean_over_the_rows_even_of_a_single_one(model, data, tokenizer):
    (task,) = (task for task in model.config.tasks if task.name == "intent")
    batch = MultiTaskDataCollator(tokenizer, data.tasks)([data["train"][0]])
    teacher = Teacher(model.train(), {"intent": 1.0}, nullcontext)
    logits = {"intent": torch.randn(1, task.num_labels)}
    found = teacher.losses(batch, logits, {"intent": count_items(task, batch)})
    # Without dropout, although the model trains.
    expected = distances(task, logits["intent"], model.eval()(**batch).logits["intent"], batch)
    assert found.keys() == {"intent"}
    assert found["intent"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_drift_is_the_mean_angle_between_states():
    before = {"pooled": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "tokens": torch.tensor([[3.0, 4.0]])}
    now = {"pooled": torch.tensor([[0.0, 3.0], [0.0, 1.0]]), "tokens": torch.tensor([[-6.0, -8.0]])}
    assert drift(before, before) == pytest.approx({"drift_pooled": 0.0, "drift_tokens": 0.0}, abs=1e-6)
    assert drift(before, now) == pytest.approx({"drift_pooled": 0.5, "drift_tokens": 2.0}, abs=1e-6)


@pytest.mark.parametrize(("rows", "first"), [(1, [0]), (70, [0, 1, 2]), (130, [0, 2, 4]), (200, [0, 3, 6])])
def test_the_drift_is_measured_on_at_most_64_rows_spread_over_the_data(rows, first):
    def collate(chosen):
        return {"input_ids": torch.tensor([row["id"] for row in chosen]), "names": ["not a tensor"]}

    found = drift_sample(datasets.Dataset.from_dict({"id": list(range(rows))}), collate, torch.device("cpu"))
    assert list(found) == ["input_ids"]
    assert len(found["input_ids"]) == min(rows, 64)
    assert found["input_ids"][:3].tolist() == first
