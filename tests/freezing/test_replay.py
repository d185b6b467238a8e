"""Replay of the stage of a run from the record of its trainer."""

import dataclasses
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_multitask.freezing import FreezeSchedule, FreezeStage, OnWorse, Until
from hf_multitask.freezing.replay import check_watched_metrics, replay
from hf_multitask.models.layer_groups import LayerGroup, LayerGroups
from hf_multitask.runtime.training_history import Evaluation, TrainingHistory

HEADS = ("head.intent", "head.slots")
ENCODER = ("embeddings", "encoder.0", "encoder.1")
ALL = ENCODER + HEADS
GROUPS = LayerGroups(LayerGroup(name, {}) for name in ALL)
NAN = math.nan
STEPS_PER_EPOCH = 10


def run(stages, evaluations=(), step=100, best_metric=None):
    return replay(FreezeSchedule(list(stages)), GROUPS, list(evaluations), step, STEPS_PER_EPOCH, best_metric)


def follow(metric, *values, every=10, start=0, **others):
    """Return evaluations with values of a metric, the first at ``start``."""
    return [
        Evaluation(start + i * every, {metric: value, **{name: series[i] for name, series in others.items()}})
        for i, value in enumerate(values)
    ]


def steps_of(progress):
    return [change.step for change in progress.transitions]


def stages_of(progress):
    return [change.stage for change in progress.transitions]


def in_one_stage(*rules, **values):
    return [FreezeStage("a", on_worse=list(rules), **values)]


def until(*args, **kwargs):
    return [FreezeStage("a", train="heads", until=Until(*args, **kwargs)), FreezeStage("b")]


def test_a_run_starts_with_its_first_stage():
    progress = run([FreezeStage("a", train="heads", steps=4), FreezeStage("b")], step=0)
    (start,) = progress.transitions
    assert (start.step, start.stage, start.trained, start.reason) == (0, 0, HEADS, "the run starts")
    assert (progress.finished, progress.next_boundary, progress.best_step) == (False, 4, None)


@pytest.mark.parametrize(
    ("lengths", "starts"),
    [
        ([{"steps": 4}, {"steps": 3}, {}], [0, 4, 7]),
        ([{"epochs": 1}, {"epochs": 2}, {}], [0, 10, 30]),
        ([{"epochs": 0.5}, {"epochs": 0.25}, {}], [0, 5, 7]),
        ([{"epochs": 0.01}, {"steps": 1}, {}], [0, 1, 2]),
        ([{"until": Until("loss", max_epochs=1.5)}, {"until": Until("loss", max_steps=2)}, {}], [0, 15, 17]),
    ],
    ids=str,
)
def test_stages_end_at_their_bounds(lengths, starts):
    stages = [FreezeStage(str(i), **length) for i, length in enumerate(lengths)]
    for step in range(starts[-1] + 3):
        begun = [start for start in starts if start <= step]
        progress = run(stages, step=step)
        assert steps_of(progress) == begun
        assert progress.stage_start == begun[-1]
        assert progress.next_boundary == (starts[len(begun)] if len(begun) < len(starts) else None)
        assert not progress.finished


def test_a_last_stage_with_a_bound_ends_the_run():
    progress = run([FreezeStage("a", steps=4)], step=4)
    assert progress.finished
    assert (progress.current.step, progress.current.stage) == (4, 1)
    assert not run([FreezeStage("a", steps=4)], step=3).finished


def test_what_held_before_a_step():
    progress = run([FreezeStage("a", steps=4), FreezeStage("b", train="heads")], step=6)
    assert [progress.before(step).stage for step in (0, 1, 4, 5)] == [0, 0, 0, 1]


def test_an_evaluation_on_the_bound_belongs_to_the_stage_that_ends():
    rule = OnWorse("slots_f1", "refreeze")
    stages = [FreezeStage("a", steps=10, on_worse=[rule]), FreezeStage("b", steps=10), FreezeStage("c")]
    progress = run(stages, follow("slots_f1", 0.5, 0.4), step=10)
    assert [(change.step, change.stage, change.starts_stage) for change in progress.transitions] == [
        (0, 0, True),
        (10, 0, False),
        (10, 1, True),
    ]


def test_an_evaluation_on_the_bound_is_where_the_next_stage_starts_from():
    stages = [FreezeStage("a", steps=10), FreezeStage("b", on_worse=[OnWorse("slots_f1", "stop")])]
    assert run(stages, follow("slots_f1", 0.5, 0.6, 0.55), step=20).finished
    assert not run(stages, follow("slots_f1", 0.7, 0.6, 0.65), step=20).finished


def test_an_until_met_on_the_bound_ends_one_stage_and_not_two():
    progress = run(until("loss", max_steps=20), follow("loss", 1.0, 1.0, 1.0), step=20)
    assert steps_of(progress) == [0, 20]
    assert "has stopped improving" in progress.current.reason


@pytest.mark.parametrize(
    ("arguments", "values", "ends"),
    [
        ({}, (0.5, 0.6, 0.7, 0.7), 30),
        ({}, (0.5, 0.6, 0.5), 20),
        ({}, (0.5, 0.6, 0.7, 0.8), None),
        ({"patience": 2}, (0.5, 0.6, 0.6, 0.7, 0.6, 0.6), 50),
        ({"patience": 2}, (0.5, 0.6, 0.6, 0.7, 0.6), None),
        ({"min_delta": 0.1}, (0.1, 0.5, 0.58, 0.7), 20),
        ({"min_delta": 0.1}, (0.1, 0.5, 0.65, 0.8), None),
        ({"max_epochs": 2}, (0.5, 0.6, 0.7, 0.8), 20),
        ({"max_steps": 15}, (0.5, 0.6, 0.7, 0.8), 15),
        ({}, (0.5, 0.6, NAN), 20),
        ({}, (NAN, NAN, NAN), 20),
        ({}, (NAN, NAN, 0.1, 0.2), None),
    ],
    ids=str,
)
def test_a_stage_ends_when_its_metric_has_stopped_improving(arguments, values, ends):
    progress = run(until("slots_f1", **arguments), follow("slots_f1", *values), step=10 * (len(values) - 1))
    assert steps_of(progress) == ([0] if ends is None else [0, ends])


@pytest.mark.parametrize("metric", ["loss", "intent_loss", "mae"])
def test_less_of_a_loss_is_better(metric):
    assert steps_of(run(until(metric), follow(metric, 0.9, 0.8, 0.7, 0.6), step=30)) == [0]
    assert steps_of(run(until(metric), follow(metric, 0.6, 0.7, 0.8), step=30)) == [0, 20]


@pytest.mark.parametrize(("when", "ends"), [("any", 20), ("all", 30)])
def test_of_several_metrics_any_or_all_must_have_stopped(when, ends):
    history = follow("slots_f1", 0.1, 0.6, 0.6, 0.6, loss=(1.0, 0.9, 0.8, 0.8))
    assert steps_of(run(until(["slots_f1", "loss"], when=when), history, step=30)) == [0, ends]


def test_all_metrics_must_have_stopped_at_the_same_time():
    history = follow("slots_f1", 0.1, 0.6, 0.6, 0.7, loss=(1.0, 0.9, 0.8, 0.8))
    assert steps_of(run(until(["slots_f1", "loss"], when="all"), history, step=30)) == [0]


def test_the_next_stage_counts_anew():
    stages = [
        FreezeStage("a", train="heads", until=Until("loss")),
        FreezeStage("b", train=["heads", "encoder.1"], until=Until("loss", patience=2)),
        FreezeStage("c"),
    ]
    history = follow("loss", 1.0, 0.9, 0.9, 1.5, 1.5, 1.5)
    assert steps_of(run(stages, history, step=50)) == [0, 20, 50]


def test_an_evaluation_before_the_first_step_is_no_evaluation_of_the_stage():
    assert steps_of(run(until("loss"), follow("loss", 0.1, 0.5), step=10)) == [0]


def test_stop_ends_the_run_and_nothing_happens_after_it():
    progress = run(in_one_stage(OnWorse("slots_f1", "stop")), follow("slots_f1", 0.5, 0.6, 0.5, 0.9, 0.1), step=40)
    assert progress.finished
    assert steps_of(progress) == [0, 20]
    assert progress.current.stage == 1
    assert progress.current.reason == "slots_f1 got worse"


@pytest.mark.parametrize(
    ("arguments", "values", "stops"),
    [
        ({}, (0.5, 0.6), None),
        ({}, (0.5, 0.5), 10),
        ({}, (0.5, 0.4), 10),
        ({"by": 0.1}, (0.5, 0.45, 0.41), None),
        ({"by": 0.1}, (0.5, 0.7, 0.55), 20),
        ({"by": 0.25}, (0.5, 0.25), 10),
        ({"patience": 2}, (0.5, 0.4, 0.6, 0.5, 0.4), 40),
        ({"patience": 2}, (0.5, 0.4, 0.6, 0.5, 0.7), None),
        ({}, (0.5, NAN), 10),
        ({"by": 9}, (0.5, NAN), 10),
        ({"patience": 2}, (0.5, NAN, 0.6), None),
        ({}, (NAN, 0.5, 0.6), None),
        ({}, (NAN, NAN), 10),
    ],
    ids=str,
)
def test_how_much_worse_for_how_long(arguments, values, stops):
    rule = OnWorse("slots_f1", "stop", **arguments)
    progress = run(in_one_stage(rule), follow("slots_f1", *values), step=10 * (len(values) - 1))
    assert steps_of(progress) == ([0] if stops is None else [0, stops])


def test_without_an_evaluation_at_the_start_the_first_one_is_the_reference():
    history = follow("slots_f1", 0.5, 0.4, start=10)
    assert steps_of(run(in_one_stage(OnWorse("slots_f1", "stop")), history, step=20)) == [0, 20]


def test_refreeze_freezes_the_head_of_the_metric_until_the_stage_ends():
    stages = [FreezeStage("a", steps=30, on_worse=[OnWorse("slots_f1", "refreeze")]), FreezeStage("b")]
    progress = run(stages, follow("slots_f1", 0.5, 0.4, 0.3, 0.2), step=30)
    assert [(change.step, change.trained) for change in progress.transitions] == [
        (0, ALL),
        (10, (*ENCODER, "head.intent")),
        (30, ALL),
    ]
    assert "slots_f1 got worse: frozen again" in progress.transitions[1].reason


def test_refreezing_all_that_trains_ends_the_stage():
    rule = OnWorse("slots_f1", "refreeze", groups="heads")
    stages = [FreezeStage("a", train="heads", steps=30, on_worse=[rule]), FreezeStage("b", train="encoder")]
    progress = run(stages, follow("slots_f1", 0.5, 0.4), step=10)
    assert [(change.stage, change.trained) for change in progress.transitions] == [(0, HEADS), (1, ENCODER)]
    assert run(stages[:1], follow("slots_f1", 0.5, 0.4), step=10).finished


def test_rates_are_lowered_again_and_again_until_the_stage_ends():
    rule = OnWorse("slots_f1", "lower_lr", groups=["encoder.1", "heads"], factor=0.5)
    stages = [FreezeStage("a", steps=30, on_worse=[rule]), FreezeStage("b")]
    progress = run(stages, follow("slots_f1", 0.5, 0.4, 0.3, 0.6), step=30)
    slowed = ("encoder.1", *HEADS)
    assert [dict(change.rate_factors) for change in progress.transitions] == [
        {},
        dict.fromkeys(slowed, 0.5),
        dict.fromkeys(slowed, 0.25),
        {},
    ]
    assert {change.trained for change in progress.transitions} == {ALL}


def test_after_a_rule_has_acted_its_patience_begins_anew():
    rule = OnWorse("slots_f1", "lower_lr", groups="heads", patience=2)
    progress = run(in_one_stage(rule), follow("slots_f1", 0.5, 0.4, 0.3, 0.2, 0.1), step=40)
    assert steps_of(progress) == [0, 20, 40]


def test_several_rules_act_at_one_evaluation():
    rules = [OnWorse("slots_f1", "lower_lr", groups="encoder"), OnWorse("intent_accuracy", "refreeze")]
    history = follow("slots_f1", 0.5, 0.4, intent_accuracy=(0.5, 0.4))
    progress = run(in_one_stage(*rules), history, step=10)
    assert progress.current.trained == (*ENCODER, "head.slots")
    assert progress.current.rate_factors == dict.fromkeys(ENCODER, 0.5)
    assert steps_of(progress) == [0, 10, 10]


def test_stop_goes_before_other_rules():
    rules = [OnWorse("slots_f1", "refreeze"), OnWorse("slots_f1", "stop")]
    progress = run(in_one_stage(*rules), follow("slots_f1", 0.5, 0.4), step=10)
    assert progress.finished
    assert steps_of(progress) == [0, 10]


def gap(*pairs, every=10):
    """Return evaluations with pairs of validation and training loss; the first, at step 0, has no training loss."""
    return [Evaluation(i * every, {"loss": pair[0]}, pair[1]) for i, pair in enumerate(pairs)]


def progressive():
    return [
        FreezeStage("heads", train="heads", until=Until("loss", watch_gap=True)),
        FreezeStage("top", train=["heads", "encoder.1"], until=Until("loss", watch_gap=True)),
        FreezeStage("all"),
    ]


def test_the_next_layers_come_when_the_metric_stalls_and_the_gap_does_not_grow():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9))
    progress = run(progressive(), history, step=20)
    assert stages_of(progress) == [0, 1]


def test_no_next_layers_while_the_gap_grows():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.8), (0.9, 0.7))
    assert stages_of(run(progressive(), history, step=30)) == [0]


def test_the_first_stage_freezes_nothing_again():
    history = gap((1.0, None), (1.0, 0.9), (1.1, 0.8), (1.2, 0.7))
    assert len(run(progressive(), history, step=30).transitions) == 1


def test_layers_that_only_overfit_are_frozen_again():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9), (1.0, 0.8), (1.1, 0.6))
    progress = run(progressive(), history, step=40)
    assert [(change.step, change.stage, change.starts_stage, change.trained) for change in progress.transitions] == [
        (0, 0, True, HEADS),
        (20, 1, True, ("encoder.1", *HEADS)),
        (40, 1, False, HEADS),
    ]
    assert "no better than before the stage" in progress.current.reason


def test_freezing_again_is_the_only_change_of_an_evaluation():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9), (1.0, 0.8), (1.1, 0.6))
    heads, top, everything = progressive()
    rule = OnWorse("loss", "lower_lr", by=0.15, patience=1, groups="heads", factor=0.5)
    changes = run([heads, replace(top, on_worse=[rule]), everything], history, step=40).transitions
    assert [(change.step, change.stage) for change in changes] == [(0, 0), (20, 1), (40, 1)]
    assert dict(changes[-1].rate_factors) == {}


def test_rules_act_while_a_growing_gap_holds_the_next_layers_back():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.8))
    heads, top, everything = progressive()
    rule = OnWorse("loss", "lower_lr", groups="heads", factor=0.5)
    changes = run([replace(heads, on_worse=[rule]), top, everything], history, step=20).transitions
    assert [(change.step, change.stage) for change in changes] == [(0, 0), (20, 0)]
    assert dict(changes[-1].rate_factors) == dict.fromkeys(HEADS, 0.5)


def test_layers_that_have_helped_go_on_training_though_the_gap_grows():
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9), (0.5, 0.4), (0.6, 0.3))
    assert stages_of(run(progressive(), history, step=40)) == [0, 1]


def test_layers_that_start_between_evaluations_are_not_frozen_again():
    # Nothing is known of the weights that they start from.
    heads = FreezeStage("heads", train="heads", steps=5)
    history = gap((1.0, None), (0.9, 0.9), (1.0, 0.8), (1.1, 0.6), (1.2, 0.5))
    changes = run([heads, *progressive()[1:]], history, step=40).transitions
    assert [(change.step, change.stage) for change in changes] == [(0, 0), (5, 1)]


def test_layers_frozen_again_stay_so_until_the_stages_bound():
    stages = progressive()
    stages[1].until.max_steps = 40
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9), (1.0, 0.8), (1.1, 0.6), (1.1, 0.6), (1.1, 0.6))
    progress = run(stages, history, step=60)
    assert [(change.step, change.trained) for change in progress.transitions[2:]] == [(40, HEADS), (60, ALL)]


def test_a_stage_after_layers_were_frozen_again_ends_by_its_own_metric():
    heads, top, everything = progressive()
    top.until.max_steps = 30
    below = FreezeStage("below", train=["heads", "encoder"], until=Until("loss"))
    history = gap((1.0, None), (0.9, 0.9), (0.9, 0.9), (1.0, 0.8), (1.1, 0.6), (1.1, 0.6), (1.1, 0.6), (1.1, 0.6))
    changes = run([heads, top, below, everything], history, step=70).transitions
    assert [(change.step, change.stage) for change in changes] == [(0, 0), (20, 1), (40, 1), (50, 2), (70, 3)]


def test_without_training_losses_the_gap_does_not_hold_a_stage_back():
    assert stages_of(run(progressive(), gap((1.0, None), (0.9, 0.9), (0.9, None)), step=20)) == [0, 1]
    assert stages_of(run(progressive(), gap((1.0, None), (0.9, None), (0.9, None)), step=20)) == [0, 1]


@pytest.mark.parametrize(
    ("metric", "values", "best", "restored"),
    [
        ("slots_f1", (0.9, 0.5, 0.7, 0.6), 20, 20),
        ("slots_f1", (0.1, 0.5, 0.6, 0.7), 30, None),
        ("loss", (0.1, 0.5, 0.7, 0.6), 10, 10),
        ("slots_f1", (0.1, NAN, 0.6, 0.5), 20, 20),
        ("slots_f1", (0.1, 0.6, 0.6, NAN), 10, 10),
    ],
)
def test_the_best_weights_of_the_stage_come_back_before_the_next(metric, values, best, restored):
    stages = [FreezeStage("a", train="heads", steps=35, restore_best=True), FreezeStage("b")]
    history = follow(metric, *values)
    assert run(stages, history, step=30, best_metric=f"eval_{metric}").best_step == best
    progress = run(stages, history, step=35, best_metric=metric)
    assert progress.current.restore_step == best
    stages[0].steps = 30
    assert run(stages, history, step=30, best_metric=metric).current.restore_step == restored


def test_a_stage_without_an_evaluation_has_no_best_weights():
    stages = [FreezeStage("a", train="heads", steps=5, restore_best=True), FreezeStage("b")]
    assert run(stages, follow("loss", 0.5), step=5, best_metric="loss").current.restore_step is None


def test_after_a_restoration_the_reference_is_the_evaluation_of_those_weights():
    stages = [
        FreezeStage("a", train="heads", steps=30, restore_best=True),
        FreezeStage("b", on_worse=[OnWorse("slots_f1", "stop")]),
    ]
    history = follow("slots_f1", 0.1, 0.8, 0.6, 0.5, 0.7)
    assert run(stages, history, step=40, best_metric="slots_f1").finished
    assert not run([dataclasses.replace(stages[0], restore_best=False), stages[1]], history, step=40).finished


@pytest.mark.parametrize(
    "stages",
    [until("slots_f"), in_one_stage(OnWorse("slots_f", "stop")), until(["slots_f1", "slots_f"])],
    ids=["until", "on_worse", "one of several"],
)
def test_a_missing_metric_is_named_with_those_there_are(stages):
    history = follow("slots_f1", 0.5, 0.5, loss=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"unknown metric 'slots_f'. Did you mean 'slots_f1'.*'loss'"):
        run(stages, history, step=10)
    with pytest.raises(ValueError, match=r"unknown metric 'slots_f'. Did you mean 'slots_f1'.*'loss'"):
        check_watched_metrics(FreezeSchedule(stages), None, ["slots_f1", "loss"])


def test_the_metric_of_the_best_weights_and_the_loss_of_the_gap_are_checked_too():
    best = FreezeSchedule([FreezeStage("a", steps=1, restore_best=True), FreezeStage("b")])
    with pytest.raises(ValueError, match=r"unknown metric 'accuracy'"):
        check_watched_metrics(best, "eval_accuracy", ["loss"])
    watches_gap = FreezeSchedule(until("slots_f1", watch_gap=True))
    with pytest.raises(ValueError, match=r"unknown metric 'loss'"):
        check_watched_metrics(watches_gap, None, ["slots_f1"])
    check_watched_metrics(watches_gap, None, ["slots_f1", "loss"])
    check_watched_metrics(best, "accuracy", ["loss", "accuracy"])


values = st.one_of(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.just(NAN))
metric_names = st.sampled_from(["slots_f1", "intent_accuracy", "loss"])
some_groups = st.sampled_from(["heads", "encoder", "all", "embeddings", ["encoder.1", "head.slots"], "head.intent"])
any_rule = st.builds(
    OnWorse,
    metric=metric_names,
    do=st.sampled_from(["stop", "refreeze", "lower_lr"]),
    by=st.sampled_from([0, 0.1]),
    patience=st.integers(1, 2),
    groups=some_groups,
)
any_until = st.builds(
    Until,
    metric=st.one_of(metric_names, st.just(["slots_f1", "loss"])),
    patience=st.integers(1, 2),
    max_steps=st.one_of(st.none(), st.integers(1, 12)),
    when=st.sampled_from(["all", "any"]),
    watch_gap=st.booleans(),
)
any_end = st.one_of(
    st.fixed_dictionaries({"steps": st.integers(1, 6)}),
    st.fixed_dictionaries({"epochs": st.sampled_from([0.25, 0.5, 1])}),
    st.fixed_dictionaries({"until": any_until}),
)


@st.composite
def schedules(draw):
    ends = [*draw(st.lists(any_end, min_size=0, max_size=3)), draw(st.one_of(any_end, st.just({})))]
    return FreezeSchedule(
        [
            FreezeStage(
                str(i),
                train=draw(some_groups),
                restore_best=i < len(ends) - 1 and draw(st.booleans()),
                on_worse=draw(st.lists(any_rule, max_size=2)),
                **end,
            )
            for i, end in enumerate(ends)
        ]
    )


@st.composite
def histories(draw):
    steps = sorted(draw(st.sets(st.integers(0, 24), max_size=10)))
    loss = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3]))
    return [
        Evaluation(step, {name: draw(values) for name in ("slots_f1", "intent_accuracy", "loss")}, draw(loss))
        for step in steps
    ]


@given(schedules(), histories(), st.integers(0, 24))
@settings(max_examples=200)
def test_what_happened_up_to_a_step_is_how_the_whole_run_began(schedule, history, step):
    whole = replay(schedule, GROUPS, history, 24, STEPS_PER_EPOCH, "loss")
    seen = [evaluation for evaluation in history if evaluation.step <= step]
    part = replay(schedule, GROUPS, seen, step, STEPS_PER_EPOCH, "loss")
    assert part.transitions == whole.transitions[: len(part.transitions)]
    assert all(change.step > step for change in whole.transitions[len(part.transitions) :])
    assert part == replay(schedule, GROUPS, history, step, STEPS_PER_EPOCH, "loss")
    if not part.finished and part.next_boundary is not None:
        assert part.next_boundary > step


@given(schedules(), histories())
@settings(max_examples=200)
def test_changes_are_in_order_and_something_trains_after_each(schedule, history):
    progress = replay(schedule, GROUPS, history, 24, STEPS_PER_EPOCH, "loss")
    assert steps_of(progress) == sorted(steps_of(progress))
    assert stages_of(progress) == sorted(stages_of(progress))
    assert progress.finished == (progress.current.stage == len(schedule.stages))
    in_stages = progress.transitions[:-1] if progress.finished else progress.transitions
    starts = [change.stage for change in in_stages if change.starts_stage]
    assert starts == list(range(len(starts)))
    for change in in_stages:
        assert set(change.trained) <= set(schedule.stages[change.stage].trained(GROUPS))
        assert change.trained
        assert all(0 < factor < 1 for factor in change.rate_factors.values())
    evaluated = {evaluation.step for evaluation in history}
    assert all(change.restore_step in {None, *evaluated} for change in progress.transitions)


def logged(steps, validation, train, score):
    """Return the log of a run with three stages on a frozen encoder, with a short entry at the end of each epoch."""
    history = []
    for i, step in enumerate(steps):
        history.append({"loss": train[i], "step": step - 1})
        history.append({"loss": train[i] / 2, "step": step})
        history.append({"eval_loss": validation[i], "eval_score": score[i], "step": step})
    return history


def run_in_blocks(validation, train, score):
    until = {"metric": "score", "patience": 1, "watch_gap": True}
    stages = [{"train": "heads", "until": until}, {"train": ["heads", "encoder.1"], "until": until}, {}]
    schedule = FreezeSchedule.from_dict({"stages": stages})
    steps = [47 * (i + 1) for i in range(len(score))]
    history = TrainingHistory(logged(steps, validation, train, score)).evaluations()
    return [(change.step, change.trained) for change in replay(schedule, GROUPS, history, steps[-1], 47).transitions]


def test_a_gap_that_opens_while_the_metric_still_improves_holds_nothing_up():
    # Early training losses are means over an epoch of learning: first far above the validation loss, then below it.
    changes = run_in_blocks([2.19, 1.34, 0.92, 0.90], [3.0, 1.7, 0.75, 0.72], [0.11, 0.19, 0.32, 0.31])
    assert [step for step, _ in changes] == [0, 4 * 47]


def test_a_gap_that_opens_while_the_metric_stands_still_holds_the_next_block_back():
    changes = run_in_blocks([2.19, 1.34, 0.92, 1.00], [3.0, 1.7, 0.75, 0.60], [0.11, 0.19, 0.32, 0.31])
    assert [step for step, _ in changes] == [0]


def test_what_was_logged_over_few_steps_weighs_little():
    log = [{"loss": 2.0, "step": 9}, {"loss": 1.0, "step": 10}, {"eval_loss": 1.0, "step": 10}]
    history = TrainingHistory(log).evaluations()
    assert history[0].train_loss == pytest.approx(1.9)
