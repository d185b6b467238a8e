"""Schedules: invalid values, writing and reading."""

import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_multitask.freezing import FreezeSchedule, FreezeStage, OnWorse, Protection, Until
from hf_multitask.freezing.stage import ACTIONS, STAGE_SCHEDULERS, greater_is_better

SELECTORS = ["all", "heads", "encoder", "embeddings", "encoder.1", "encoder[-2:]", "head.intent"]
GROUPS = ["embeddings", "encoder.0", "encoder.1", "encoder.2", "head.intent", "head.slots"]


@pytest.fixture
def groups(model):
    return model.layer_groups()


def schedule_of(*stages, **values):
    return FreezeSchedule.from_dict({"stages": list(stages), **values})


# PyYAML cannot read back the control characters that it writes.
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
rates = st.floats(min_value=1e-8, max_value=1.0)
positive = st.one_of(st.integers(1, 50), st.floats(min_value=1e-3, max_value=50.0))
selectors = st.one_of(st.sampled_from(SELECTORS), st.lists(st.sampled_from(SELECTORS), max_size=3))
one_or_none = st.one_of(st.none(), st.integers(1, 50))


@st.composite
def untils(draw):
    bound = draw(st.sampled_from(["max_epochs", "max_steps", None]))
    bounds = {} if bound is None else {bound: draw(positive if bound == "max_epochs" else st.integers(1, 50))}
    return Until(
        metric=draw(st.one_of(names, st.lists(names, min_size=1, max_size=3))),
        patience=draw(st.integers(1, 5)),
        min_delta=draw(st.one_of(st.integers(0, 2), st.floats(0, 1))),
        when=draw(st.sampled_from(["all", "any"])),
        watch_gap=draw(st.booleans()),
        **bounds,
    )


rules = st.builds(
    OnWorse,
    metric=names,
    do=st.sampled_from(ACTIONS),
    by=st.one_of(st.integers(0, 2), st.floats(0, 1)),
    patience=st.integers(1, 5),
    groups=st.one_of(st.none(), selectors),
    factor=st.floats(min_value=0.01, max_value=0.99),
)


@st.composite
def stages(draw, name, last):
    end = draw(st.sampled_from(["epochs", "steps", "until"] + ([None] if last else [])))
    ends = {"epochs": positive, "steps": st.integers(1, 50), "until": untils()}
    return FreezeStage(
        name=name,
        train=draw(selectors),
        freeze=draw(selectors),
        learning_rate=draw(st.one_of(st.none(), rates)),
        head_learning_rate=draw(st.one_of(st.none(), rates)),
        layer_lr_decay=draw(st.one_of(st.none(), st.floats(min_value=0.01, max_value=1.0))),
        lr_scheduler_type=draw(st.one_of(st.none(), st.sampled_from(STAGE_SCHEDULERS))),
        warmup_steps=draw(st.one_of(st.none(), st.integers(0, 9), st.floats(0, 0.9))),
        restore_best=not last and draw(st.booleans()),
        on_worse=draw(st.lists(rules, max_size=2)),
        **({} if end is None else {end: draw(ends[end])}),
    )


@st.composite
def schedules(draw):
    called = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return FreezeSchedule(
        [draw(stages(name, i == len(called) - 1)) for i, name in enumerate(called)],
        draw(st.dictionaries(names, st.builds(Protection, distill=positive), max_size=2)),
    )


@given(schedules())
@settings(max_examples=60)
def test_a_schedule_is_the_same_after_a_mapping_json_and_yaml(schedule):
    values = schedule.to_dict()
    assert FreezeSchedule.from_dict(values) == schedule
    assert FreezeSchedule.from_dict(json.loads(json.dumps(values))) == schedule
    assert FreezeSchedule.from_dict(yaml.safe_load(schedule.to_yaml())) == schedule


@pytest.mark.parametrize("file", ["schedule.yaml", "schedule.json"])
@given(schedule=schedules())
@settings(max_examples=40)
def test_a_schedule_is_the_same_after_a_file(schedule, file, tmp_path):
    schedule.save(tmp_path / file)
    assert FreezeSchedule.from_file(tmp_path / file) == schedule


@pytest.mark.parametrize("file", ["schedule.yaml", "schedule.json"])
@pytest.mark.parametrize("name", ["köpfe zuerst", "🥶 → 🔥", "a: b # c", "1e3", "tab\there"])
def test_a_stage_keeps_its_name_in_a_file(name, file, tmp_path):
    FreezeSchedule([FreezeStage(name)]).save(tmp_path / file)
    assert FreezeSchedule.from_file(tmp_path / file).stages[0].name == name


def test_json_may_be_indented_with_tabs(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps({"stages": [{"name": "a", "train": "heads"}]}, indent="\t"))
    assert FreezeSchedule.from_file(path).stages == [FreezeStage("a", train="heads")]


def test_what_is_at_its_default_is_not_written():
    schedule = FreezeSchedule([FreezeStage("a", train="heads", steps=2), FreezeStage("b")])
    assert schedule.to_dict() == {"stages": [{"name": "a", "train": "heads", "steps": 2}, {"name": "b"}]}


def test_numbers_that_yaml_takes_for_strings_are_numbers(tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(
        "stages:\n"
        "- {epochs: 5e-1, learning_rate: 2e-5, head_learning_rate: 1e-3, layer_lr_decay: 9e-1, warmup_steps: 1e-1,\n"
        "   on_worse: {metric: slots_f1, do: lower_lr, by: 1e-2, factor: 5e-1}}\n"
        "- {train: heads, until: {metric: loss, min_delta: 1e-4, max_epochs: 2e0}}\n"
        "protect: {intent: {distill: 5e-1}}\n"
    )
    schedule = FreezeSchedule.from_file(path)
    first, second = schedule.stages
    rule = first.on_worse[0]
    assert (first.epochs, first.learning_rate, first.head_learning_rate) == (0.5, 2e-5, 1e-3)
    assert (first.layer_lr_decay, first.warmup_steps, rule.by, rule.factor) == (0.9, 0.1, 0.01, 0.5)
    assert (second.until.min_delta, second.until.max_epochs) == (1e-4, 2.0)
    assert schedule.protect["intent"].distill == 0.5


def test_stages_without_a_name_are_numbered_and_one_rule_needs_no_list():
    schedule = schedule_of({"epochs": 1, "on_worse": {"metric": "loss", "do": "stop"}}, {"name": "b"}, protect=None)
    assert [stage.name for stage in schedule.stages] == ["stage 1", "b"]
    assert schedule.stages[0].on_worse == [OnWorse("loss", "stop")]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"epochs": 1, "steps": 2}, "stage 'a': epochs and steps are given; expected one of them"),
        ({"epochs": 1, "until": {"metric": "loss"}}, "epochs and until are given; .* max_epochs or max_steps"),
        ({"epoch": 1}, "stage 'a': unknown key 'epoch'. Did you mean 'epochs'"),
        ({"until": {"metrics": "loss"}}, "stage 'a': until: unknown key 'metrics'. Did you mean 'metric'"),
        ({"until": {"patience": 1}}, "stage 'a': until: the key 'metric' is missing, found patience"),
        ({"until": {"metric": []}}, "until: metric is empty"),
        ({"until": {"metric": "loss", "patience": 0}}, "until: patience must be at least 1, found 0"),
        ({"until": {"metric": "loss", "min_delta": -1}}, "until: min_delta must be at least 0, found -1"),
        (
            {"until": {"metric": "loss", "max_epochs": 1, "max_steps": 1}},
            "max_epochs and max_steps exclude each other",
        ),
        ({"until": {"metric": "loss", "max_epochs": 0}}, "until: max_epochs must be above 0, found 0"),
        ({"until": {"metric": "loss", "max_steps": -1}}, "until: max_steps must be above 0, found -1"),
        ({"until": {"metric": "loss", "when": "al"}}, "until: unknown when 'al'. Did you mean 'all'"),
        ({"until": "loss"}, "stage 'a': until: expected a mapping, found 'loss'"),
        ({"on_worse": {"metric": "loss"}}, "stage 'a': on_worse: the key 'do' is missing, found metric"),
        ({"on_worse": {"metric": "loss", "do": "freeze"}}, "on_worse: unknown do 'freeze'. Did you mean 'refreeze'"),
        ({"on_worse": {"metric": "loss", "do": "stop", "by": -1}}, "on_worse: by must be at least 0, found -1"),
        ({"on_worse": {"metric": "loss", "do": "stop", "patience": 0}}, "on_worse: patience must be at least 1"),
        ({"on_worse": {"metric": "loss", "do": "lower_lr", "factor": 1.0}}, "factor must be between 0 and 1, found 1"),
        ({"on_worse": {"metric": "loss", "does": "stop"}}, "on_worse: unknown key 'does'. Did you mean 'do'"),
        ({"on_worse": ["stop"]}, "stage 'a': on_worse: expected a mapping, found 'stop'"),
        ({"epochs": 0}, "stage 'a': epochs must be above 0, found 0"),
        ({"epochs": "one"}, "stage 'a': epochs: expected .*, found 'one'"),
        ({"steps": 1.5}, "stage 'a': steps: expected .*, found 1.5"),
        ({"steps": -3}, "stage 'a': steps must be above 0, found -3"),
        ({"learning_rate": -1e-5}, "stage 'a': learning_rate must be at least 0"),
        ({"head_learning_rate": "fast"}, "stage 'a': head_learning_rate: expected .*, found 'fast'"),
        ({"layer_lr_decay": 0}, "stage 'a': layer_lr_decay must be above 0"),
        ({"layer_lr_decay": 1.1}, "stage 'a': layer_lr_decay must be at most 1, found 1.1"),
        ({"warmup_steps": -1}, "stage 'a': warmup_steps must be at least 0"),
        ({"lr_scheduler_type": "linaer"}, "unknown lr_scheduler_type 'linaer'. Did you mean 'linear'"),
        ({"lr_scheduler_kwargs": {"power": 2}}, "lr_scheduler_kwargs need an lr_scheduler_type"),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}},
            "unknown key in lr_scheduler_kwargs 'cycles'. Did you mean 'num_cycles'",
        ),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"factor": 2.0}},
            "stage 'a': lr_scheduler_kwargs: factor must be between 0 and 1, found 2.0",
        ),
        ({"train": 3}, "stage 'a': train: expected .*, found 3"),
        ({"baseline": "yes"}, "stage 'a': baseline: expected true or false, found 'yes'"),
        ({"restore_best": True}, "restore_best restores weights before the next stage, .* load_best_model_at_end"),
    ],
    ids=str,
)
def test_a_wrong_stage_is_refused(stage, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        schedule_of({"name": "a", **stage})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": []}, "unknown key of the schedule 'stage'. Did you mean 'stages'"),
        ({}, "stages must be a list of mappings .* found nothing"),
        ({"stages": {"train": "heads"}}, "stages must be a list of mappings .* found {'train'"),
        ({"stages": ["heads"]}, r"stages must be a list of mappings .* found \['heads'\]"),
        ({"stages": []}, "stages is empty"),
        ({"stages": [{"name": "a", "steps": 1}, {"name": "a"}]}, "different names; more than one is called a"),
        ({"stages": [{"name": "a"}, {"name": "b"}]}, "stage 'a' has no end: give epochs, steps or until"),
        ({"stages": [{"baseline": True, "train": "none", "steps": 1}, {}]}, "'stage 1': a baseline must be the only"),
        ({"stages": [{}], "protect": "intent"}, "protect must be a mapping such as .* found 'intent'"),
        ({"stages": [{}], "protect": {"intent": 0.5}}, "protect.intent: expected a mapping, found 0.5"),
        ({"stages": [{}], "protect": {"intent": {}}}, "protect.intent: the key 'distill' is missing"),
        ({"stages": [{}], "protect": {"intent": {"distil": 1}}}, "unknown key 'distil'. Did you mean 'distill'"),
        ({"stages": [{}], "protect": {"intent": {"distill": 0}}}, "protect: distill must be above 0, found 0"),
    ],
    ids=str,
)
def test_a_wrong_schedule_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FreezeSchedule.from_dict(values)


@pytest.mark.parametrize("text", ["- heads\n", "heads\n", ""])
def test_a_file_that_holds_no_mapping_is_refused_with_its_name(text, tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"schedule.yaml: expected a mapping with `stages`"):
        FreezeSchedule.from_file(path)


@pytest.mark.parametrize("text", ["stages: [", "stages: [{trian: heads}]"])
def test_a_wrong_file_is_refused_with_its_name(text, tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"schedule.yaml: "):
        FreezeSchedule.from_file(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml: this freeze schedule file does not exist"):
        FreezeSchedule.from_file(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("field", ["learning_rate", "head_learning_rate", "layer_lr_decay", "warmup_steps", "epochs"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        FreezeStage("a", **{field: value})


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ({"train": "heads"}, GROUPS[4:]),
        ({}, GROUPS),
        ({"freeze": "encoder[:2]"}, ["embeddings", *GROUPS[3:]]),
        ({"train": ["encoder[-1:]", "heads"], "freeze": "head.slots"}, ["encoder.2", "head.intent"]),
        ({"train": ["head.slots", "embeddings"]}, ["embeddings", "head.slots"]),
    ],
    ids=str,
)
def test_a_stage_trains_what_it_selects_less_what_it_freezes(stage, trained, groups):
    assert FreezeStage("a", **stage).trained(groups) == trained


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"train": "head.intnt"}, "stage 'a': unknown group 'head.intnt'. Did you mean 'head.intent'.*'head.slots'"),
        ({"freeze": "encoder.7"}, "stage 'a': unknown group 'encoder.7'. Did you mean 'encoder.*'embeddings'"),
        ({"train": "encoder[9:]"}, "stage 'a': .*selects none of the 3 layers"),
        ({"train": "none"}, "stage 'a': nothing trains. .* 'all', or a single stage with `baseline: true`"),
        ({"train": "heads", "freeze": "heads"}, "stage 'a': nothing trains"),
        (
            {"train": "heads", "baseline": True},
            "stage 'a': is declared as a baseline, but trains head.intent, head.slots",
        ),
        (
            {"on_worse": [OnWorse("accuracy", "refreeze")]},
            "stage 'a': on_worse: 'accuracy' is not .*; set `groups` to the layer groups that 'refreeze'",
        ),
        ({"on_worse": [OnWorse("accuracy", "lower_lr")]}, "set `groups` to the layer groups that 'lower_lr'"),
        ({"on_worse": [OnWorse("loss", "refreeze", groups="hads")]}, "unknown group 'hads'. Did you mean 'heads'"),
    ],
    ids=str,
)
def test_a_stage_that_does_not_fit_the_model_is_refused(stage, message, groups):
    with pytest.raises(ValueError, match=message):
        FreezeSchedule([FreezeStage("a", **stage)]).check(groups)


def test_a_baseline_alone_is_allowed(groups):
    schedule = FreezeSchedule([FreezeStage("a", train="none", baseline=True)])
    schedule.check(groups)
    assert schedule.is_baseline


@pytest.mark.parametrize(
    ("rule", "selected"),
    [
        (OnWorse("slots_f1", "refreeze"), ["head.slots"]),
        (OnWorse("intent_accuracy", "lower_lr"), ["head.intent"]),
        (OnWorse("loss", "stop"), []),
        (OnWorse("loss", "refreeze", groups=["heads", "encoder.2"]), ["encoder.2", "head.intent", "head.slots"]),
    ],
    ids=str,
)
def test_a_rule_concerns_the_head_of_its_metric_or_the_groups_that_it_names(rule, selected, groups):
    assert rule.select_groups(groups) == selected


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({}, "there is no stage in which head.intent is frozen while the encoder trains"),
        ({"freeze": "head.slots"}, "there is no stage in which head.intent is frozen"),
        ({"train": "head.slots"}, "there is no stage in which head.intent is frozen"),
    ],
    ids=str,
)
def test_protection_without_effect_is_refused(stage, message, groups):
    with pytest.raises(ValueError, match=message):
        schedule_of(stage, protect={"intent": {"distill": 1}}).check(groups)


def test_protection_of_an_unknown_task_is_refused(groups):
    with pytest.raises(ValueError, match=r"protect: unknown task 'intents'. Did you mean 'intent'"):
        schedule_of({"freeze": "head.intent"}, protect={"intents": {"distill": 1}}).check(groups)


def test_protection_in_one_of_the_stages_is_enough(groups):
    schedule_of({"steps": 1}, {"freeze": "head.intent"}, protect={"intent": {"distill": 1}}).check(groups)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([{"epochs": 2}, {}], r"stage 'stage 2' would start at step 10, but the run ends at step 10 \(2 epochs\)"),
        ([{"steps": 4}, {"steps": 7}, {}], "stage 'stage 3' would start at step 11, but the run ends at step 10"),
        ([{"epochs": 1}, {"steps": 3}], "the stages end at step 8, but the run ends at step 10 .* 'stage 2' open"),
        ([{"epochs": 1}, {"steps": 6}], "the stages end at step 11, but the run ends at step 10"),
        ([{"until": {"metric": "loss"}}, {"epochs": 2}, {}], "stage 'stage 3' would start at step 10"),
    ],
    ids=str,
)
def test_stages_that_are_not_as_long_as_the_run_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        schedule_of(*lengths).check_length(steps_per_epoch=5, max_steps=10)


@pytest.mark.parametrize(
    "lengths",
    [
        [{}],
        [{"epochs": 1}, {}],
        [{"epochs": 1}, {"steps": 5}],
        [{"until": {"metric": "loss", "max_epochs": 9}}, {}],
        [{"until": {"metric": "loss"}}, {"epochs": 1}],
    ],
    ids=str,
)
def test_stages_that_fit_the_run_are_allowed(lengths):
    schedule_of(*lengths).check_length(steps_per_epoch=5, max_steps=10)


@pytest.mark.parametrize(
    ("length", "steps"),
    [({}, None), ({"steps": 7}, 7), ({"epochs": 2}, 10), ({"epochs": 0.5}, 2), ({"epochs": 0.01}, 1)],
    ids=str,
)
def test_a_stage_has_whole_steps_and_at_least_one(length, steps):
    assert FreezeStage("a", **length).max_steps(steps_per_epoch=5) == steps
    bounds = {f"max_{name}": value for name, value in length.items()}
    assert FreezeStage("a", until=Until("loss", **bounds)).max_steps(5) == steps


@pytest.mark.parametrize(
    ("stage", "default", "metric"),
    [
        ({"epochs": 1}, "loss", None),
        ({"epochs": 1, "restore_best": True}, "eval_slots_f1", "slots_f1"),
        ({"until": Until("loss"), "restore_best": True}, "slots_f1", "loss"),
        ({"until": Until(["loss", "slots_f1"]), "restore_best": True}, "joint_accuracy", "joint_accuracy"),
    ],
    ids=str,
)
def test_the_best_weights_are_those_by_the_stages_metric_or_the_runs(stage, default, metric):
    schedule = FreezeSchedule([FreezeStage("a", **stage), FreezeStage("b")])
    assert schedule.best_metric(schedule.stages[0], default) == metric


@pytest.mark.parametrize("end", [{"epochs": 1}, {"until": Until(["loss", "slots_f1"])}], ids=str)
def test_best_weights_without_a_metric_are_refused(end):
    schedule = FreezeSchedule([FreezeStage("a", restore_best=True, **end), FreezeStage("b")])
    with pytest.raises(ValueError, match=r"stage 'a': restore_best needs a metric"):
        schedule.best_metric(schedule.stages[0], None)


@pytest.mark.parametrize(
    ("metric", "greater"),
    [("slots_f1", True), ("joint_accuracy", True), ("loss", False), ("intent_loss", False), ("score_mae", False)],
)
def test_less_is_better_of_losses_and_errors_alone(metric, greater):
    assert greater_is_better(metric) is greater


def test_the_metrics_that_are_watched_are_those_of_ends_and_rules():
    schedule = FreezeSchedule(
        [
            FreezeStage("a", until=Until(["loss", "slots_f1"]), on_worse=[OnWorse("intent_accuracy", "stop")]),
            FreezeStage("b", until=Until("slots_f1", watch_gap=True)),
        ]
    )
    assert schedule.watched_metrics == ["loss", "slots_f1", "intent_accuracy"]
    assert schedule.watches_gap
    assert not schedule.sets_rates


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0.0},
        {"head_learning_rate": 1e-3},
        {"layer_lr_decay": 0.9},
        {"warmup_steps": 0},
        {"lr_scheduler_type": "cosine"},
        {"on_worse": [OnWorse("loss", "lower_lr")]},
    ],
    ids=str,
)
def test_a_stage_sets_rates_with_any_of_its_own(values):
    assert FreezeSchedule([FreezeStage("a", **values)]).sets_rates


def test_a_stage_says_what_trains():
    assert FreezeStage("a", train=["heads", "encoder[-1:]"]).in_words()[0] == "heads, encoder[-1:]"
    assert FreezeStage("a", freeze=["embeddings"]).in_words()[0].endswith(" without embeddings")
    baseline = FreezeStage("a", train="none", baseline=True)
    assert baseline.in_words() == ("nothing", "nothing trains", "those of the run")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "the run's end"),
        ({"steps": 1}, "1 step"),
        ({"epochs": 1.5}, "1.5 epochs"),
        ({"until": Until("loss")}, "loss not better for 1 evaluation"),
        ({"until": Until("loss", patience=2, max_epochs=3)}, "loss not better for 2 evaluations, or 3 epochs"),
        ({"until": Until(["a", "b"], when="any", max_steps=9)}, "any of a, b not better for 1 evaluation, or 9 steps"),
    ],
    ids=str,
)
def test_a_stage_says_how_it_ends(given, words):
    assert FreezeStage("a", **given).end_in_words() == words
