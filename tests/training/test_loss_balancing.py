"""Balanced losses: what each method does, resumed runs, accumulation, and what is refused."""

import json
import math
import re

import pytest
import torch

from hf_multitask import MultiTaskModel, MultiTaskTrainingArguments, TaskConfig
from hf_multitask.training.balancing_methods import METHODS, DynamicWeightAverage, Uncertainty, read_balancing
from hf_multitask.training.loss_balancing import STATE_NAME
from tests.trainers import make_trainer, without_dropout

TASKS = [TaskConfig(name, "sequence_classification", labels=["x", "y"]) for name in ("a", "b")]
BOTH = torch.tensor([True, True])
FIRST = torch.tensor([True, False])


def begin(name, **options):
    method = read_balancing({"method": name, **options})
    method.begin(TASKS, torch.device("cpu"), 0)
    return method


def feed(method, losses, present=BOTH, steps=300, first=1):
    for step in range(first, first + steps):
        method.update(step, torch.tensor(losses), present)
    return method.weights(first + steps).tolist()


class TestMethods:
    def test_uncertainty_approaches_the_inverse_of_the_losses(self):
        # s minimizes exp(-s) L + s / 2, so that exp(-s) = 1 / (2 L).
        weights = feed(begin("uncertainty", learning_rate=0.05), [2.0, 0.25], steps=1500)
        assert weights == pytest.approx([0.25, 2.0], rel=0.05)

    def test_uncertainty_counts_a_regression_half(self):
        method = Uncertainty()
        method.begin([TASKS[0], TaskConfig("n", "sequence_classification", problem_type="regression")], "cpu", 0)
        assert method.weights(0).tolist() == [1.0, 0.5]

    def test_dwa_counts_a_task_more_whose_loss_falls_slower(self):
        method = begin("dwa", steps=10, temperature=1.0)
        assert feed(method, [2.0, 2.0], steps=10) == pytest.approx([1.0, 1.0]), "one window has no ratio"
        weights = feed(method, [2.0, 1.0], steps=10, first=11)
        share = math.exp(1.0) / (math.exp(1.0) + math.exp(0.5))
        assert weights == pytest.approx([2 * share, 2 - 2 * share])

    def test_famo_counts_a_task_more_whose_loss_falls_slower(self):
        method = begin("famo")
        assert method.weights(0).tolist() == [1.0, 1.0]
        for step in range(1, 100):
            method.update(step, torch.tensor([1.0, 0.97**step]), BOTH)
        first, second = torch.softmax(method.state["parameter"], 0).tolist()
        assert first > 0.6 > second
        losses = method.state["loss"].tolist()
        expected = [first / losses[0], second / losses[1]]
        assert method.weights(100).tolist() == pytest.approx([2 * value / sum(expected) for value in expected])

    def test_random_weights_are_a_function_of_seed_and_step(self):
        method = begin("random")
        state = torch.get_rng_state()
        weights = torch.stack([method.weights(step) for step in range(400)])
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(weights[7], method.weights(7))
        assert weights.sum(1).tolist() == pytest.approx([2.0] * 400)
        assert weights.mean(0).tolist() == pytest.approx([1.0, 1.0], abs=0.05)
        assert weights.std(0).min() > 0.2
        method.begin(TASKS, torch.device("cpu"), 1)
        assert not torch.equal(weights[7], method.weights(7))

    def test_equal_norms(self):
        method = begin("equal_norm", steps=5)
        assert [step for step in range(1, 12) if method.needs_norms(step)] == [1, 5, 10]
        assert method.weights(0).tolist() == [1.0, 1.0]
        method.update_norms({"a": 1.0, "b": 3.0})
        assert method.weights(1).tolist() == pytest.approx([1.5, 0.5])
        method.update_norms({"b": math.nan})
        assert method.weights(5).tolist() == pytest.approx([1.5, 0.5])

    @pytest.mark.parametrize("name", ["uncertainty", "dwa", "famo"])
    def test_a_missing_task_does_not_count(self, name):
        method = begin(name, **({"steps": 10} if name == "dwa" else {}))
        feed(method, [2.0, 1.0], steps=20)
        before = {key: values[1].item() for key, values in method.state.items() if key not in ("sum", "count")}
        feed(method, [1.5, 0.0], FIRST, steps=20, first=21)
        after = {key: values[1].item() for key, values in method.state.items() if key not in ("sum", "count")}
        assert before == after
        feed(method, [1.5, 0.0], BOTH, steps=20, first=41)
        assert before != {key: values[1].item() for key, values in method.state.items() if key in before}

    @pytest.mark.parametrize("name", METHODS)
    def test_the_state_is_kept_exactly(self, name):
        method, other = begin(name), begin(name)
        for step in range(1, 150):
            method.update(step, torch.rand(2), BOTH)
            if method.needs_norms(step):
                method.update_norms({"a": 0.1, "b": 0.3})
        other.load_state_dict(json.loads(json.dumps(method.state_dict())))
        for step in range(150, 250):
            losses = torch.rand(2)
            for each in (method, other):
                each.update(step, losses, BOTH)
        assert torch.equal(method.weights(250), other.weights(250))


def train(encoder, tokenizer, data, folder, resume=None, tasks=None, schedule=None, **arguments):
    torch.manual_seed(0)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, tasks or data.tasks))
    defaults = {"max_steps": 6, "logging_steps": 1, "learning_rate": 1e-3}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, **{**defaults, **arguments})
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


OPTIONS = {
    "uncertainty": {"learning_rate": 0.1},
    "dwa": {"steps": 2},
    "famo": {},
    "random": {},
    "equal_norm": {"steps": 2},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_balanced_and_resumed(encoder, tokenizer, data, tmp_path, name):
    method = {"method": name, **OPTIONS[name]}
    options = {"loss_balancing": method, "save_strategy": "steps", "save_steps": 4}
    whole = train(encoder, tokenizer, data, tmp_path / "whole", **options)
    weights = logged(whole, "loss_weight_intent")
    assert len(weights) == 6
    assert len(set(weights)) > 1
    intent, slots = logged(whole, "intent_loss"), logged(whole, "slots_loss")
    others = logged(whole, "loss_weight_slots")
    sums = [w * i + v * s for w, i, v, s in zip(weights, intent, others, slots, strict=True)]
    assert logged(whole, "loss") == pytest.approx(sums, rel=1e-3)
    checkpoint = str(tmp_path / "whole" / "checkpoint-4")
    resumed = train(encoder, tokenizer, data, tmp_path / "resumed", resume=checkpoint, **options)
    assert logged(resumed, "loss_weight_intent") == weights
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert logged(resumed, "loss") == logged(whole, "loss")


@pytest.mark.parametrize("name", ["uncertainty", "famo"])
def test_accumulation_changes_nothing(encoder, tokenizer, data, tmp_path, name):
    weights = []
    for batch, accumulation in ((8, 1), (4, 2)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = train(encoder, tokenizer, data, tmp_path / str(batch), loss_balancing=name, **options)
        weights.append(logged(trainer, "loss_weight_intent"))
    assert weights[0] == pytest.approx(weights[1], rel=1e-3)
    assert len(set(weights[0])) > 1


def test_a_fixed_weight_is_multiplied(encoder, tokenizer, data, tmp_path):
    fixed = [
        TaskConfig(**{**task.to_dict(), "loss_weight": 3.0 if task.name == "slots" else 1.0}) for task in data.tasks
    ]
    trainer = train(encoder, tokenizer, data, tmp_path, tasks=fixed, loss_balancing="random", max_steps=2)
    of_intent = [
        w * loss
        for w, loss in zip(*(logged(trainer, name) for name in ("loss_weight_intent", "intent_loss")), strict=True)
    ]
    of_slots = [
        3 * w * loss
        for w, loss in zip(*(logged(trainer, name) for name in ("loss_weight_slots", "slots_loss")), strict=True)
    ]
    sums = [one + other for one, other in zip(of_intent, of_slots, strict=True)]
    assert logged(trainer, "loss") == pytest.approx(sums, rel=1e-3)


def test_none_is_the_sum_as_before(encoder, tokenizer, data, tmp_path):
    plain = train(encoder, tokenizer, data, tmp_path / "plain")
    none = train(encoder, tokenizer, data, tmp_path / "none", loss_balancing="none")
    assert logged(plain, "loss") == logged(none, "loss")
    assert not logged(none, "loss_weight_intent")


def test_a_window_and_a_schedule(encoder, tokenizer, data, tmp_path):
    options = {
        "loss_balancing": "equal_norm",
        "schedule": {"stages": [{"train": "heads", "steps": 3}, {"train": "all"}]},
    }
    weights = logged(train(encoder, tokenizer, data, tmp_path, **options), "loss_weight_intent")
    assert weights[:3] == [1.0] * 3, "no shared weight trains"


@pytest.mark.parametrize(("before", "now"), [("dwa", "famo"), ("dwa", "none"), ("none", "dwa")])
def test_another_method_is_not_resumed(encoder, tokenizer, data, tmp_path, before, now):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    train(encoder, tokenizer, data, tmp_path / "first", loss_balancing=before, **saving)
    checkpoint = tmp_path / "first" / "checkpoint-2"
    assert (checkpoint / STATE_NAME).exists() == (before != "none")
    with pytest.raises(ValueError, match=f"was written with '{before}', found '{now}'; resume with loss_balancing"):
        train(encoder, tokenizer, data, tmp_path / "second", resume=str(checkpoint), loss_balancing=now, max_steps=4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("dvwa", "unknown loss_balancing 'dvwa'"),
        ("uncertaint", "Did you mean 'uncertainty'?"),
        ({"temperature": 2}, "the mapping has no 'method'. Allowed: none, uncertainty, dwa"),
        ({"method": "dwa", "temprature": 2}, "dwa: unknown option 'temprature'. Did you mean 'temperature'?"),
        ({"method": "random", "seed": 2}, "random: option 'seed': it has no options"),
        ({"method": "dwa", "steps": 0}, "dwa: steps must be above 0, found 0"),
        ({"method": "famo", "decay": -1}, "famo: decay must be at least 0, found -1"),
        ({"method": "dwa", "steps": "many"}, "dwa: steps"),
        ('{"method": ', "expected a name or a mapping in JSON"),
    ],
)
def test_refused(tmp_path, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiTaskTrainingArguments(str(tmp_path), loss_balancing=value)


def test_a_mapping_in_json(tmp_path):
    assert read_balancing('{"method": "dwa", "steps": 7}') == DynamicWeightAverage(steps=7)
    assert read_balancing(None) is None
    assert read_balancing("none") is None
