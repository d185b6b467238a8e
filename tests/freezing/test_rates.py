"""Learning rates by group: their peaks, their course in a stage, and their values in the optimizer at each step."""

import inspect
import math

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel
from hf_multitask.freezing import FreezeSchedule, FreezeStage, OnWorse
from hf_multitask.freezing.rates import StageRateFactor, peak_rates, rates_in_words
from tests.trainers import make_trainer

ENCODER = ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
HEADS = ["head.intent", "head.slots"]
STEPS = 6


class Recorder(TrainerCallback):
    """Records the learning rates of the groups that train at each step."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        groups = [group for group in optimizer.param_groups if group["params"][0].requires_grad]
        rates = {group["layer_group"]: {other["lr"] for other in groups if same(group, other)} for group in groups}
        assert all(len(found) == 1 for found in rates.values())
        self.rates.append({name: found.pop() for name, found in rates.items()})


def same(group, other):
    return group["layer_group"] == other["layer_group"]


def train(model, data, tokenizer, folder, schedule=None, callbacks=(), **arguments):
    recorder = Recorder()
    defaults = {"max_steps": STEPS, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "logging_steps": 1}
    given = {"callbacks": [recorder, *callbacks]}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, given, **{**defaults, **arguments})
    trainer.train()
    return trainer, recorder.rates


@pytest.fixture
def fit(model, data, tokenizer, tmp_path):
    return lambda *args, **kwargs: train(model, data, tokenizer, tmp_path, *args, **kwargs)


def linear(step, start=0, length=STEPS, warmup=0):
    step -= start
    return step / warmup if step < warmup else (length - step) / (length - warmup)


def expected_rates(factor, encoder=1e-3, head=1e-2, groups=(*ENCODER, *HEADS)):
    return pytest.approx({name: (head if name in HEADS else encoder) * factor for name in groups})


def test_peaks_are_the_runs_where_the_stage_has_none(model):
    assert peak_rates(model.layer_groups(), 1e-3, 1e-2) == expected_rates(1.0)
    assert peak_rates(model.layer_groups(), 1e-3, 1e-2, FreezeStage("a")) == expected_rates(1.0)


def test_the_stages_own_peaks_come_first(model):
    groups = model.layer_groups()
    stage = FreezeStage("a", learning_rate=5e-4)
    assert peak_rates(groups, 1e-3, 1e-2, stage) == expected_rates(1.0, encoder=5e-4)
    stage = FreezeStage("a", head_learning_rate=0.0)
    assert peak_rates(groups, 1e-3, 1e-2, stage) == expected_rates(1.0, head=0.0)


def test_each_layer_has_a_lower_rate_than_the_one_above_it(model):
    rates = peak_rates(model.layer_groups(), 1e-3, 1e-2, FreezeStage("a", layer_lr_decay=0.5))
    assert [rates[name] for name in reversed(ENCODER)] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert [rates[name] for name in HEADS] == [1e-2, 1e-2]


def test_the_decay_of_the_run_is_for_stages_without_their_own(model):
    groups = model.layer_groups()
    for stage in (None, FreezeStage("a")):
        rates = peak_rates(groups, 1e-3, 1e-2, stage, layer_lr_decay=0.5)
        assert [rates[name] for name in reversed(ENCODER)] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    rates = peak_rates(groups, 1e-3, 1e-2, FreezeStage("a", layer_lr_decay=1.0), layer_lr_decay=0.5)
    assert rates == expected_rates(1.0)


def test_rates_in_words():
    rates = {"embeddings": 1e-4, "encoder.0": 2e-4, "encoder.1": 4e-4, "head.a": 1e-3, "head.b": 1e-3}
    assert rates_in_words(rates) == ["embeddings, encoder.0-1: 0.0001 to 0.0004", "head.a, head.b: 0.001"]
    assert rates_in_words({"encoder.0": 2e-4, "encoder.1": 2e-4}) == ["encoder.0-1: 0.0002"]
    assert rates_in_words({}) == []


def test_a_final_norm_has_the_rate_of_the_uppermost_layer(encoders, data):
    groups = MultiTaskModel.from_encoder(encoders["modernbert"], data.tasks).layer_groups()
    rates = peak_rates(groups, 1e-3, 1e-2, FreezeStage("a", layer_lr_decay=0.5))
    assert rates["encoder.norm"] == rates["encoder.2"] == 1e-3
    assert rates["encoder.1"] == 5e-4


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (3, 3), (0.25, 3), (0.04, 0)])
def test_a_stage_warms_up_from_above_zero(kind, warmup, steps):
    factor = StageRateFactor(FreezeStage("a", lr_scheduler_type=kind, warmup_steps=warmup), 12)
    assert [factor(step) for step in range(steps)] == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert factor(steps) == 1.0


def test_linear_falls_to_near_zero():
    factor = StageRateFactor(FreezeStage("a", warmup_steps=2), 12)
    assert [factor(step) for step in range(2, 12)] == pytest.approx([(12 - step) / 10 for step in range(2, 12)])


def test_cosine_falls_to_near_zero():
    factor = StageRateFactor(FreezeStage("a", lr_scheduler_type="cosine"), 10)
    assert [factor(step) for step in range(10)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    )


def test_constant_stays():
    factor = StageRateFactor(FreezeStage("a", lr_scheduler_type="constant"), 10)
    assert {factor(step) for step in range(10)} == {1.0}


@pytest.mark.parametrize("warmup", [None, 0, 0.5, 1, 3])
@pytest.mark.parametrize("length", [1, 2])
def test_even_the_shortest_stage_trains_at_its_first_step(warmup, length):
    factor = StageRateFactor(FreezeStage("a", lr_scheduler_type="linear", warmup_steps=warmup), length)
    assert 0 < factor(0) <= 1


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("schedule", [None, "none", "encoder", ["encoder[:2]"]], ids=str)
def test_without_rates_of_stages_those_of_the_run_hold(schedule, warmup, fit):
    trainer, rates = fit(schedule, warmup_steps=warmup)
    frozen = {"encoder": ENCODER, "['encoder[:2]']": ENCODER[1:3]}.get(str(schedule), [])
    groups = [name for name in (*ENCODER, *HEADS) if name not in frozen]
    assert len(rates) == STEPS
    for step, found in enumerate(rates):
        assert found == expected_rates(linear(step, warmup=warmup), groups=groups)
    for entry, found in zip([log for log in trainer.state.log_history if "loss" in log], rates, strict=True):
        logged = {key.removeprefix("learning_rate_"): entry[key] for key in entry if key.startswith("learning_rate_")}
        assert logged == found
        assert entry["learning_rate"] == max([found[name] for name in found if name in ENCODER] or found.values())


def test_rates_of_stages_follow_the_warm_up_and_decay_of_the_run(fit):
    schedule = FreezeSchedule(
        [
            FreezeStage("a", train="heads", steps=3, head_learning_rate=5e-2),
            FreezeStage("b", learning_rate=1e-4, layer_lr_decay=0.5),
        ]
    )
    trainer, rates = fit(schedule, warmup_steps=2)
    for step in range(3):
        assert rates[step] == expected_rates(linear(step, warmup=2), head=5e-2, groups=HEADS)
    for step in range(3, STEPS):
        factor = linear(step, warmup=2)
        below = {name: 1e-4 * 0.5**depth * factor for depth, name in enumerate(reversed(ENCODER))}
        assert rates[step] == pytest.approx({**below, **dict.fromkeys(HEADS, 1e-2 * factor)})
    entries = [log for log in trainer.state.log_history if "loss" in log]
    for entry, found in zip(entries, rates, strict=True):
        assert {name: entry.get(f"learning_rate_{name}") for name in found} == found
        assert not any(f"learning_rate_{name}" in entry for name in {*ENCODER, *HEADS} - set(found))
    stages = [log for log in trainer.state.log_history if "freeze_stage" in log]
    assert stages[0]["learning_rates"] == dict.fromkeys(HEADS, 5e-2)
    assert stages[1]["learning_rates"]["embeddings"] == pytest.approx(1e-4 / 8)


def test_warm_up_and_decay_inside_each_stage(fit):
    schedule = FreezeSchedule(
        [
            FreezeStage("a", train="heads", steps=2, warmup_steps=1),
            FreezeStage("b", lr_scheduler_type="constant"),
        ]
    )
    _, rates = fit(schedule, max_steps=5)
    assert rates[:2] == [expected_rates(1.0, groups=HEADS)] * 2
    assert rates[2:] == [expected_rates(1.0)] * 3
    schedule.stages[1].lr_scheduler_type = "linear"
    _, rates = fit(schedule, max_steps=5)
    assert rates[2:] == [expected_rates(linear(step, length=3)) for step in range(3)]


def test_a_stage_of_its_own_does_not_change_the_others_course(fit):
    schedule = FreezeSchedule([FreezeStage("a", steps=2, lr_scheduler_type="constant"), FreezeStage("b")])
    _, rates = fit(schedule)
    assert rates == [expected_rates(1.0)] * 2 + [expected_rates(linear(step)) for step in range(2, STEPS)]


def test_rates_are_lowered_when_a_metric_does_not_get_better(fit):
    rule = OnWorse("slots_f1", "lower_lr", factor=0.5)
    _, rates = fit(
        FreezeSchedule([FreezeStage("a", on_worse=[rule])]),
        eval_strategy="steps",
        eval_steps=2,
        learning_rate=0.0,
        head_learning_rate=1e-12,
        lr_scheduler_type="constant",
    )
    found = [(step["head.intent"], step["head.slots"]) for step in rates]
    expected = [(1e-12, 1e-12 * factor) for factor in (1, 1, 0.5, 0.5, 0.25, 0.25)]
    assert [pair for step in found for pair in step] == pytest.approx([pair for step in expected for pair in step])


def test_rates_fall_on_a_plateau_as_with_torchs_scheduler(fit):
    kwargs = {"metric": "loss", "patience": 0, "factor": 0.5}
    stage = FreezeStage("a", lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs=kwargs)
    # The weights do not move, so no evaluation is better than the first.
    arguments = {"eval_strategy": "steps", "eval_steps": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    _, rates = fit(FreezeSchedule([stage]), **arguments)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1e-12)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, eps=0.0)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        plateau.step(1.0)
    assert [step["encoder.0"] for step in rates] == pytest.approx(expected)
    assert [step["head.slots"] for step in rates] == pytest.approx(expected)


def test_a_plateau_without_arguments_is_that_of_torch():
    (rule,) = FreezeStage("a", lr_scheduler_type="reduce_lr_on_plateau").rules
    of_torch = inspect.signature(torch.optim.lr_scheduler.ReduceLROnPlateau).parameters
    assert (rule.patience - 1, rule.factor) == (of_torch["patience"].default, of_torch["factor"].default)


def test_a_scheduler_of_a_stage_takes_arguments():
    stage = FreezeStage("a", lr_scheduler_type="cosine_with_restarts", lr_scheduler_kwargs={"num_cycles": 2})
    factor = StageRateFactor(stage, 10)
    assert factor(5) == pytest.approx(1.0)
    assert factor(4) < 0.5
    with pytest.raises(ValueError, match=r"stage 'b': lr_scheduler_type 'cosine_with_min_lr': .*min_lr_rate"):
        StageRateFactor(FreezeStage("b", lr_scheduler_type="cosine_with_min_lr"), 10)


def test_a_stage_has_rates_though_the_runs_are_zero(fit):
    schedule = FreezeSchedule([FreezeStage("a", learning_rate=1e-3, head_learning_rate=1e-2)])
    _, rates = fit(schedule, learning_rate=0.0, head_learning_rate=0.0)
    assert rates[0] == expected_rates(1.0)
