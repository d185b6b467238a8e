"""Layers that have stopped learning: what freezes when is a function of the recorded measurements and evaluations."""

import pytest
import yaml

from hf_multitask.freezing import Converged, FreezeSchedule, FreezeStage, OnWorse, Until, build_schedule
from hf_multitask.freezing.converged import depth_below, freezable_units
from hf_multitask.freezing.convergence import (
    CACHES_KEY,
    DISTANCES_KEY,
    WINDOW,
    Convergence,
    Measurement,
    Span,
    pays,
    read_measurements,
)
from hf_multitask.freezing.replay import replay
from hf_multitask.models.layer_groups import LayerGroup, LayerGroups
from hf_multitask.runtime.training_history import Evaluation

HEADS = ("head.intent", "head.slots")
LAYERS = tuple(f"encoder.{i}" for i in range(4))
ALL = ("embeddings", *LAYERS, *HEADS)
GROUPS = LayerGroups(LayerGroup(name, {}) for name in ALL)
EVERY, MAX_STEPS = 10, 400
STEPS_PER_EPOCH = 40


def stage(**options):
    return FreezeStage("c", until=Until(converged=Converged(**{"watch": [], "keep": 0.5, **options})))


def moving(steps, stopped=(), caches=False):
    """Return measurements of layers that move at one pace, except for those that stopped at a step."""
    stopped = dict(stopped)
    return [
        Measurement(step, {name: float(min(step, stopped.get(name, step))) for name in ALL[:-2]}, caches)
        for step in range(EVERY, steps + 1, EVERY)
    ]


def follow(measurements, *stages, evaluations=(), step=MAX_STEPS):
    schedule = FreezeSchedule(list(stages or [stage()]))
    return replay(schedule, GROUPS, evaluations, step, STEPS_PER_EPOCH, None, measurements, MAX_STEPS)


def changes(progress):
    return [(change.step, change.trained) for change in progress.transitions]


def test_layers_freeze_from_the_bottom_up_once_they_no_longer_move():
    stopped = {"embeddings": 50, "encoder.0": 100, "encoder.1": 100, "encoder.2": 10}
    progress = follow(moving(200, stopped))
    # A pace is taken over a window, in which the layer has not moved any more.
    (_, first), (at, second), (later, third) = changes(progress)
    assert first == ALL
    assert (at, second) == (50 + EVERY * (WINDOW - 1), ALL[1:]) or at <= 50 + EVERY * WINDOW
    assert second == ALL[1:]
    assert third == ALL[3:]
    assert at < later <= 100 + EVERY * WINDOW
    assert "encoder.0-1 have stopped learning" in progress.current.reason


def test_a_layer_above_one_that_learns_does_not_freeze():
    assert len(changes(follow(moving(190, {"encoder.0": 50, "encoder.1": 50})))) == 1


def test_a_layer_that_moves_at_its_pace_freezes_when_little_is_ahead():
    # At one pace, as much as the way so far is ahead in the middle of the run, and half of it after two thirds.
    (_, (step, trained)) = changes(follow(moving(300), stage(aggressiveness=1)))
    assert (step, trained) == (200, ALL[3:])
    (_, (step, _)) = changes(follow(moving(300), stage(aggressiveness=0.5)))
    assert step == 270


@pytest.mark.parametrize(("keep", "most"), [(1, 1), (0.75, 2), (0.5, 3), (0.3, 3), (0.25, 4), (0, 5)])
def test_the_uppermost_layers_keep_training(keep, most):
    units = freezable_units(Converged(keep=keep), ALL, GROUPS)
    assert [unit.name for unit in units] == list(ALL[:most])
    progress = follow(moving(100, dict.fromkeys(ALL, 10)), stage(keep=keep))
    assert progress.current.trained == ALL[most:]


def test_frozen_depths_count_layers_and_not_embeddings():
    units = freezable_units(Converged(keep=0), ALL, GROUPS)
    assert [unit.depth for unit in units] == [0, 1, 2, 3, 4]


def test_the_last_norm_freezes_only_with_all_layers():
    groups = LayerGroups(LayerGroup(name, {}) for name in ("embeddings", *LAYERS, "encoder.norm", *HEADS))
    trained = [group.name for group in groups]
    found = freezable_units(Converged(keep=0.5), trained, groups)
    assert [unit.name for unit in found] == ["embeddings", "encoder.0", "encoder.1"]
    found = freezable_units(Converged(keep=0), trained, groups)
    assert [(unit.name, unit.depth) for unit in found][-2:] == [("encoder.3", 4), ("encoder.norm", 4)]


def test_only_what_a_stage_trains_freezes():
    upper = FreezeStage("c", train=["heads", "encoder[2:]"], until=Until(converged=Converged(watch=[], keep=0.5)))
    progress = follow(moving(100, dict.fromkeys(ALL, 10)), upper)
    assert [trained for _, trained in changes(progress)] == [("encoder.2", "encoder.3", *HEADS), ("encoder.3", *HEADS)]


def test_a_stage_with_another_after_it_ends_when_all_has_frozen():
    progress = follow(moving(100, dict.fromkeys(ALL, 10)), stage(), FreezeStage("heads", train="heads"))
    assert [(change.stage, change.starts_stage) for change in progress.transitions] == [(0, True), (1, True)]


def test_a_stage_ends_at_its_bound():
    bounded = FreezeStage("c", until=Until(max_steps=60, converged=Converged(watch=[])))
    progress = follow(moving(200), bounded, FreezeStage("b"), step=200)
    assert [change.step for change in progress.transitions] == [0, 60]


@pytest.mark.parametrize(
    ("depth", "now", "epochs", "caches", "expected"),
    [
        (1, 0, 1, True, True),
        (4, 3, 1, True, False),
        (4, 3, 1, False, True),
        (4, 3, 1.4, True, True),
        (3, 2, 1, True, True),
        (0, 0, 0, True, False),
        (1, 0, 0, False, False),
    ],
)
def test_a_freeze_must_save_more_passes_than_it_costs(depth, now, epochs, caches, expected):
    assert pays(depth, now, epochs, caches) is expected


def test_too_late_for_the_cache_nothing_freezes():
    stopped = dict.fromkeys(ALL, 350)
    late = [m for m in moving(400, stopped, caches=True) if m.step > 340]
    assert len(changes(follow(late, step=MAX_STEPS - 1))) == 1
    without = [Measurement(m.step, m.distances, caches=False) for m in late]
    assert len(changes(follow(without, step=MAX_STEPS - 1))) == 2


def watching(distance=0.0, **options):
    """Return the state of a stage, and a function that measures it: layers at this distance that stand still."""
    options = Converged(**{"watch": "slots_f1", "keep": 0.5, "min_delta": 0.0, **options})
    state = Convergence(options, freezable_units(options, ALL, GROUPS), 0, Span(STEPS_PER_EPOCH, MAX_STEPS))
    steps = iter(range(1, MAX_STEPS))

    def measure(value=distance, reference=None):
        measurement = Measurement(next(steps), dict.fromkeys(ALL[:3], value), False)
        return state.measure(measurement, MAX_STEPS, reference)

    return state, measure


def rounds_to_freeze(state, measure, f1):
    """Return the number of evaluations, each followed by a measurement, until layers freeze."""
    for number in range(1, 50):
        assert state.see(Evaluation(0, {"slots_f1": f1})) is None
        if measure(reference=Evaluation(0, {"slots_f1": f1})):
            return number
    return None


@pytest.mark.parametrize(("patience", "expected"), [(1, WINDOW + 1), (3, 6), (4, 8)])
def test_layers_that_train_again_rest_for_twice_the_patience_and_are_measured_anew(patience, expected):
    state, measure = watching(patience=patience)
    before = Evaluation(0, {"slots_f1": 0.5})
    reasons = [measure(reference=before) for _ in range(WINDOW + 1)]
    assert reasons[:-1] == [None] * WINDOW
    assert reasons[-1] is not None
    assert state.frozen_groups == set(ALL[:3])
    assert "train again" in state.see(Evaluation(1, {"slots_f1": 0.4}))
    assert state.frozen_groups == set()
    # What was frozen is no longer watched: another fall lets nothing train again.
    assert rounds_to_freeze(state, measure, 0.3) == expected


@pytest.mark.parametrize(("metric", "sign"), [("slots_f1", -1), ("slots_loss", 1)])
def test_a_metric_that_changes_by_the_tolerance_is_not_worse(metric, sign):
    state, measure = watching(watch=metric, patience=2, min_delta=0.25)
    for _ in range(WINDOW + 1):
        measure(reference=Evaluation(0, {metric: 0.5}))
    assert state.see(Evaluation(1, {metric: 0.5 + sign * 0.25})) is None
    assert "train again" in state.see(Evaluation(2, {metric: 0.5 + sign * 0.375}))


def test_each_freeze_must_save_more_than_a_cache_of_all_below_costs():
    options = Converged(watch=[], keep=0.5)
    state = Convergence(options, freezable_units(options, ALL, GROUPS), 0, Span(STEPS_PER_EPOCH, MAX_STEPS))

    def measure(step, names, epochs):
        measurement = Measurement(step, dict.fromkeys(names, 1.0), caches=True)
        return state.measure(measurement, step + int(epochs * STEPS_PER_EPOCH), None)

    # A layer saves three passes in an epoch. The first freeze costs a pass through one layer, the second through two.
    lower = ["embeddings", "encoder.0"]
    assert [measure(step, lower, 0.25) for step in range(1, WINDOW + 2)] == [None] * (WINDOW + 1)
    assert measure(WINDOW + 2, lower, 0.5) is not None
    assert state.frozen_groups == set(lower)
    assert [measure(step, ["encoder.1"], 0.5) for step in range(10, WINDOW + 12)] == [None] * (WINDOW + 2)
    assert measure(WINDOW + 12, ["encoder.1"], 0.75) is not None
    assert state.frozen_groups == {*lower, "encoder.1"}


def test_layers_that_do_not_move_at_all_freeze():
    _, measure = watching(0.0)
    assert [measure() is None for _ in range(WINDOW + 1)] == [True] * WINDOW + [False]


def test_small_distances_count_as_large_ones():
    _, measure = watching()
    assert [measure(1e-3 * step) for step in range(1, 2 * WINDOW)] == [None] * (2 * WINDOW - 1)


def test_the_depth_counts_the_layers_below_what_trains():
    assert depth_below(ALL, GROUPS) == 0
    assert depth_below(("embeddings", *HEADS), GROUPS) == 0
    assert depth_below(LAYERS, GROUPS) == 0
    assert depth_below(("encoder.2", *HEADS), GROUPS) == 2
    assert depth_below(HEADS, GROUPS) == 4
    assert depth_below((), GROUPS) == 4


def test_a_run_has_forty_measurements_or_one_at_each_step():
    assert [Span(10, steps).interval for steps in (4, 40, 79, 80, 400)] == [1, 1, 1, 2, 10]


def test_measurements_are_read_from_the_history():
    history = [{"loss": 1.0, "step": 1}, {DISTANCES_KEY: {"encoder.0": 0.5}, CACHES_KEY: True, "step": 2}]
    assert read_measurements(history) == [Measurement(2, {"encoder.0": 0.5}, True)]


def test_what_is_decided_later_is_said_in_words():
    assert Converged(keep=0.25).in_words() == "layers freeze from the bottom up, at most 75% of them"


STOPPED = dict.fromkeys(ALL, 10)


def scored(*values, metric="slots_f1"):
    return [Evaluation(STEPS_PER_EPOCH * i, {metric: value}) for i, value in enumerate(values)]


def test_layers_train_again_if_a_metric_falls_and_are_left_alone_for_a_while():
    watching = stage(watch="slots_f1", min_delta=0.01, patience=2)
    # Frozen at step 50, after the evaluation at 40. The one at 120 is the second after it.
    progress = follow(moving(400, STOPPED), watching, evaluations=scored(0.1, 0.5, 0.5, 0.48, *[0.5] * 7))
    steps = [step for step, _ in changes(progress)]
    assert steps[:3] == [0, 50, 120]
    assert progress.transitions[2].trained == ALL
    assert "slots_f1 got worse after the freeze" in progress.transitions[2].reason
    # Twice the patience: not before the evaluation at 280.
    assert steps[3] > 240


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ((0.1, 0.5, 0.5, 0.495, 0.5), "slots_f1", 2),
        ((0.1, 0.5, 0.5, 0.5, 0.3), "slots_f1", 2),  # the third evaluation after the freeze
        ((0.1, 0.5, 0.3, 0.5, 0.5), "slots_f1", 3),
        ((0.1, 0.5, float("nan"), 0.5, 0.5), "slots_f1", 3),
        ((2.0, 0.5, 0.6, 0.5, 0.5), "slots_loss", 3),
        ((2.0, 0.5, 0.4, 0.3, 0.3), "slots_loss", 2),
    ],
)
def test_which_falls_count(values, metric, expected):
    watching = stage(watch=metric)
    progress = follow(moving(160, STOPPED), watching, evaluations=scored(*values, metric=metric), step=160)
    assert len(progress.transitions) == expected


def test_what_a_rule_has_frozen_stays_frozen_when_layers_train_again():
    rule = OnWorse("intent_accuracy", "refreeze", groups="head.intent")
    watching = stage(watch="slots_f1")
    watching.on_worse = [rule]
    evaluations = [
        Evaluation(40 * i, {"slots_f1": f1, "intent_accuracy": accuracy})
        for i, (f1, accuracy) in enumerate([(0.1, 0.1), (0.5, 0.5), (0.5, 0.4), (0.3, 0.5)])
    ]
    progress = follow(moving(120, STOPPED), watching, evaluations=evaluations, step=120)
    assert progress.current.trained == tuple(name for name in ALL if name != "head.intent")


def test_a_group_that_a_rule_froze_trains_again_in_the_next_stage():
    rule = OnWorse("slots_f1", "refreeze", groups="head.intent")
    first = FreezeStage("first", steps=100, on_worse=[rule])
    evaluations = [Evaluation(40 * i, {"slots_f1": f1}) for i, f1 in enumerate((0.5, 0.4))]
    progress = follow(moving(MAX_STEPS), first, stage(), evaluations=evaluations)
    found = [(step, tuple(name for name in trained if name in HEADS)) for step, trained in changes(progress)]
    assert found[:3] == [(0, HEADS), (40, HEADS[1:]), (100, HEADS)]
    assert found[3:]
    assert {heads for _, heads in found[3:]} == {HEADS}


def test_the_decision_is_the_same_when_it_is_replayed_at_any_later_step():
    watching = stage(watch="slots_f1")
    evaluations = scored(0.1, 0.5, 0.5, 0.48, *[0.5] * 7)
    whole = follow(moving(400, STOPPED), watching, evaluations=evaluations)
    for step in range(0, 400, 7):
        part = follow(moving(400, STOPPED), watching, evaluations=evaluations, step=step)
        assert part.transitions == tuple(change for change in whole.transitions if change.step <= step)


def test_the_preset_watches_the_metric_of_the_run():
    (found,) = build_schedule("converged", GROUPS, 3, "eval_slots_f1").stages
    assert found.converged == Converged(watch="slots_f1")
    (found,) = build_schedule({"preset": "converged", "watch": [], "aggressiveness": 2}, GROUPS, 3).stages
    assert found.converged == Converged(watch=[], aggressiveness=2)


def test_a_schedule_is_the_same_after_yaml():
    schedule = FreezeSchedule([stage(aggressiveness=0.7, watch=["slots_f1"]), FreezeStage("b")])
    assert FreezeSchedule.from_dict(schedule.to_dict()) == schedule
    text = "stages:\n- until:\n    converged: {aggressiveness: 7e-1, watch: []}\n"
    assert FreezeSchedule.from_dict(yaml.safe_load(text)).stages[0].converged == Converged(0.7, watch=[])


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ({"converged": {"aggression": 1}}, "until: converged: unknown key 'aggression'. Did you mean 'aggress"),
        ({"converged": {"aggressiveness": 0}}, "aggressiveness must be above 0, found 0"),
        ({"converged": {"aggressiveness": float("inf")}}, "aggressiveness: expected a number, found inf"),
        ({"converged": {"aggressiveness": "much"}}, "until: converged: aggressiveness"),
        ({"converged": {"keep": 1.5}}, "keep must be from 0 to 1"),
        ({"converged": {"patience": 0}}, "patience must be at least 1"),
        ({"converged": {"min_delta": -1}}, "min_delta must be at least 0"),
        ({"converged": {"min_delta": float("inf")}}, "min_delta: expected a number, found inf"),
        ({"converged": {}, "metric": "loss"}, "metric and converged exclude each other"),
        ({"converged": {}, "watch_gap": True}, "watch_gap and converged exclude each other"),
        ({"converged": 3}, "until: converged: expected a mapping"),
    ],
)
def test_wrong_options_are_refused(until, message):
    with pytest.raises(ValueError, match=message):
        FreezeSchedule.from_dict({"stages": [{"until": until}]})


def test_the_least_values_are_allowed():
    assert Converged(aggressiveness=1e-9, min_delta=0, patience=1).metrics == ["loss"]


def test_an_unknown_option_of_the_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset 'converged': unknown option 'aggressive'. Did you mean 'aggress"):
        build_schedule({"preset": "converged", "aggressive": 1}, GROUPS, 3)


def test_an_encoder_in_one_piece_is_refused():
    groups = LayerGroups(LayerGroup(name, {}) for name in ("encoder", *HEADS))
    with pytest.raises(ValueError, match="cannot be frozen one by one"):
        build_schedule("converged", groups, 3)
    with pytest.raises(ValueError, match="cannot be frozen one by one"):
        FreezeSchedule([stage()]).check(groups)


def test_a_stage_of_which_nothing_may_freeze_is_refused():
    only_heads = FreezeStage("c", train="heads", until=Until(converged=Converged()))
    with pytest.raises(ValueError, match="nothing may freeze"):
        FreezeSchedule([only_heads]).check(GROUPS)
