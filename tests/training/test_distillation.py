"""The distance of a student to its teacher: by hand, by task, and the same however a batch is cut."""

import math
from dataclasses import replace

import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.models.heads_crf import CRF, log_marginals
from hf_multitask.training.distillation import Distillation, Distiller, build_distiller, without_targets

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification")
TOPICS = replace(INTENT, name="topics", problem_type="multi_label_classification")
GRADE = TaskConfig("grade", "sequence_classification", problem_type="regression")
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])
TASKS = [INTENT, TOPICS, GRADE, SLOTS]


def make_batch(rows=3, words=4):
    """Return a batch with the teacher's scores; the last row has two words, one of them without scores."""
    positions = torch.arange(1, words + 1).repeat(rows, 1)
    positions[-1, 2:] = -1
    teacher = {
        "intent": torch.randn(rows, 2).log_softmax(-1),
        "topics": torch.randn(rows, 2),
        "grade": torch.randn(rows, 1),
        "slots": torch.randn(rows, words, 3).log_softmax(-1),
    }
    teacher["slots"][-1, 1:] = math.nan
    return {"tag_positions": positions, "teacher": teacher}


def make_logits(rows=3, words=4):
    return {
        "intent": torch.randn(rows, 2),
        "topics": torch.randn(rows, 2),
        "grade": torch.randn(rows, 1),
        "slots": torch.randn(rows, words, 3),
    }


def divergence(teacher, student, temperature):
    """Sum p log(p / q) at a temperature, times its square, in Python numbers."""
    p, q = ([math.exp(x / temperature) for x in values.tolist()] for values in (teacher, student))
    p, q = ([x / sum(values) for x in values] for values in (p, q))
    return temperature**2 * sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def binary(teacher, student):
    total = 0.0
    for t, s in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return total


def losses(batch, logits, settings=None, tasks=TASKS, crfs=None):
    distiller = Distiller(settings or Distillation(temperature=3.0), tasks, [task.name for task in tasks])
    return distiller.losses(batch, logits, distiller.count([batch]), crfs or {})


def test_the_distance_is_that_of_the_paper_by_hand():
    batch, logits = make_batch(), make_logits()
    found = losses(batch, logits)
    teacher = batch["teacher"]
    expected = {
        "intent": sum(divergence(teacher["intent"][i], logits["intent"][i], 3.0) for i in range(3)) / 3,
        "topics": sum(binary(teacher["topics"][i], logits["topics"][i]) for i in range(3)) / 3,
        "grade": float(((teacher["grade"] - logits["grade"]) ** 2).sum()) / 3,
    }
    words = [(i, j) for i in range(2) for j in range(4)] + [(2, 0)]
    expected["slots"] = sum(divergence(teacher["slots"][i, j], logits["slots"][i, j], 3.0) for i, j in words) / 9
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-4)


def test_padding_and_words_without_scores_have_no_gradient():
    batch, logits = make_batch(), make_logits()
    logits["slots"].requires_grad_(True)
    losses(batch, logits)["slots"].backward()
    gradient = logits["slots"].grad
    assert torch.isfinite(gradient).all()
    assert (gradient[2, 1:] == 0).all()
    assert (gradient[2, 0] != 0).any()


def test_a_batch_cut_in_two_has_the_same_loss():
    batch, logits = make_batch(), make_logits()
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        scores = {name: value[rows] for name, value in batch["teacher"].items()}
        inputs = {"tag_positions": batch["tag_positions"][rows], "teacher": scores}
        parts.append((inputs, {name: value[rows] for name, value in logits.items()}))
    distiller = Distiller(Distillation(), TASKS, [task.name for task in TASKS])
    counts = distiller.count([inputs for inputs, _ in parts])
    assert {name: int(count) for name, count in counts.items()} == {
        "intent_teacher": 3,
        "topics_teacher": 3,
        "grade_teacher": 3,
        "slots_teacher": 9,
    }
    cut = [distiller.losses(*part, counts, {}) for part in parts]
    whole = distiller.losses(batch, logits, distiller.count([batch]), {})
    for name, value in whole.items():
        assert float(sum(part[name] for part in cut)) == pytest.approx(float(value), rel=1e-5)


def test_a_student_with_a_crf_learns_with_its_marginals():
    task = replace(SLOTS, crf=True)
    crf = CRF(3)
    torch.nn.init.normal_(crf.transitions)
    batch, logits = make_batch(), make_logits()
    emissions = logits["slots"].log_softmax(-1)
    marginals = log_marginals(emissions[:2], crf.scores(), torch.tensor([4, 4]))
    batch["teacher"]["slots"][:2] = marginals.detach()
    batch["teacher"]["slots"][2] = math.nan
    found = losses(batch, logits, tasks=[task], crfs={"slots": crf})["slots"]
    assert found.item() == pytest.approx(0, abs=1e-5)
    assert float(losses(batch, logits, tasks=[task])["slots"]) > 0.01
    other = make_batch()
    losses(other, logits, tasks=[task], crfs={"slots": crf})["slots"].backward()
    assert crf.transitions.grad.abs().sum() > 0


def test_no_scored_item_makes_a_loss_of_zero():
    batch, logits = without_targets(make_batch()), make_logits()
    assert [float(value) for value in losses(batch, logits).values()] == [0, 0, 0, 0]


def test_weights_are_those_of_the_tasks_times_their_loss_weights():
    tasks = [INTENT, replace(SLOTS, loss_weight=0.5)]
    assert Distillation(weight=2.0).weights(tasks) == {"intent": 2.0, "slots": 1.0}
    assert Distillation(weight=2.0, tasks=["slots"]).weights(tasks) == {"slots": 1.0}
    assert Distillation(tasks={"slots": 3.0}).weights(tasks) == {"slots": 1.5}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="temperature must be above 0, found 0"):
        Distillation(temperature=0.0)
    with pytest.raises(ValueError, match="weight must be a number from 0, found -1"):
        Distillation(weight=-1.0)
    with pytest.raises(ValueError, match=r"tasks\.slots must be a number from 0, found -1"):
        Distillation(tasks={"slots": -1.0})
    with pytest.raises(ValueError, match="tasks is empty"):
        Distillation(tasks=[])
    with pytest.raises(ValueError, match=r"tasks: unknown task 'slot'\. Did you mean 'slots'"):
        Distillation(tasks=["slot"]).weights(TASKS)
    with pytest.raises(ValueError, match="tasks: the teacher has slots, but not 'intent'"):
        Distiller(Distillation(tasks=["intent"]), TASKS, ["slots"])
    with pytest.raises(ValueError, match=r"distillation needs the column 'teacher' .* add_teacher_targets"):
        build_distiller(Distillation(), TASKS, None)
