"""Presets: the groups that train in each stage, on several kinds of encoders."""

import json

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    RobertaConfig,
)

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.freezing import FreezeSchedule, FreezeStage, Protection, build_schedule
from hf_multitask.freezing.presets import PRESETS
from hf_multitask.models.layer_groups import LayerGroup, LayerGroups, layer_groups

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b"]),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
]
HEADS = ["head.intent", "head.slots"]
ENCODER = ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
TOP = ["encoder.2"]


@pytest.fixture(scope="module")
def groups_of(encoders):
    return {name: MultiTaskModel.from_encoder(encoders[name], TASKS).layer_groups() for name in encoders}


@pytest.fixture(scope="module")
def groups(groups_of):
    return groups_of["bert"]


def trained(schedule, groups):
    return [stage.trained(groups) for stage in schedule.stages]


def from_the_top(norm=()):
    upper = [[*ENCODER[-k:], *norm, *HEADS] for k in range(1, 4)]
    return [HEADS, *upper, [*ENCODER, *norm, *HEADS]]


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ("none", [ENCODER + HEADS]),
        ("all", [[]]),
        ("encoder", [HEADS]),
        ("heads", [ENCODER]),
        ("embeddings", [ENCODER[1:] + HEADS]),
        ("encoder[:2]", [["embeddings", "encoder.2", *HEADS]]),
        ("head:intent", [[*ENCODER, "head.slots"]]),
        ("head.intent", [[*ENCODER, "head.slots"]]),
        ("head:intent+head:slots", [ENCODER]),
        ("encoder+head:intent", [["head.slots"]]),
        ("encoder+heads", [[]]),
        ("heads-then-all", [HEADS, ENCODER + HEADS]),
        ("three-stage", [HEADS, TOP + HEADS, ENCODER + HEADS]),
        ("gradual", from_the_top()),
        ("progressive", from_the_top()),
        ("top:1", [TOP + HEADS]),
        ("top:2", [ENCODER[-2:] + HEADS]),
        ("top:3", [ENCODER[1:] + HEADS]),
        ([], [ENCODER + HEADS]),
        (["encoder[:1]", "head.slots"], [["embeddings", "encoder.1", "encoder.2", "head.intent"]]),
        (["encoder", "heads"], [[]]),
        ({"preset": "none"}, [ENCODER + HEADS]),
        ({"preset": "top:2"}, [ENCODER[-2:] + HEADS]),
        ({"preset": "three-stage", "keep_embeddings_frozen": True}, [HEADS, TOP + HEADS, ENCODER[1:] + HEADS]),
        ({"stages": [{"train": "heads", "steps": 1}, {"freeze": "heads"}]}, [HEADS, ENCODER]),
    ],
    ids=str,
)
def test_what_trains_in_which_stage(preset, stages, groups):
    assert trained(build_schedule(preset, groups, num_train_epochs=3), groups) == stages


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ("encoder", [HEADS]),
        ("three-stage", [HEADS, ["encoder.2", "encoder.norm", *HEADS], [*ENCODER, "encoder.norm", *HEADS]]),
        ("top:2", [["encoder.1", "encoder.2", "encoder.norm", *HEADS]]),
        ("gradual", from_the_top(["encoder.norm"])),
        ("progressive", from_the_top(["encoder.norm"])),
    ],
)
def test_a_final_norm_goes_with_the_uppermost_layer(preset, stages, groups_of):
    groups = groups_of["modernbert"]
    assert trained(build_schedule(preset, groups, 3), groups) == stages


@pytest.mark.parametrize(("count", "upper"), [(1, 1), (6, 2), (7, 3), (12, 4)])
def test_the_upper_third_of_a_three_stage_schedule_is_rounded_up(count, upper):
    layers = [f"encoder.{i}" for i in range(count)]
    groups = LayerGroups(LayerGroup(name, {}) for name in ["embeddings", *layers, *HEADS])
    (_, second, _) = trained(build_schedule("three-stage", groups, 3), groups)
    assert list(second) == layers[-upper:] + HEADS


@pytest.mark.parametrize("preset", ["three-stage", "gradual", "progressive", "top:1", {"preset": "gradual"}], ids=str)
def test_presets_by_layer_are_refused_where_layers_are_shared(preset, groups_of):
    with pytest.raises(ValueError, match=r"preset '.*': this encoder shares its layers .* Allowed: 'none', 'all'"):
        build_schedule(preset, groups_of["albert"], 3)


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ("none", [["encoder", *HEADS]]),
        ("all", [[]]),
        ("encoder", [HEADS]),
        ("head:slots", [["encoder", "head.intent"]]),
        ("heads-then-all", [HEADS, ["encoder", *HEADS]]),
    ],
)
def test_other_presets_work_where_layers_are_shared(preset, stages, groups_of):
    assert trained(build_schedule(preset, groups_of["albert"], 3), groups_of["albert"]) == stages


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "all"])
@pytest.mark.parametrize("architecture", ["mpnet", "distilbert", "electra", "deberta-v2", "xlm-roberta"])
def test_every_preset_ends_with_the_heads_training_on_other_encoders(preset, architecture, groups_of):
    groups = groups_of[architecture]
    schedule = build_schedule(preset, groups, 3)
    assert set(HEADS) <= set(trained(schedule, groups)[-1])
    assert FreezeSchedule.from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize(
    ("preset", "epochs"),
    [
        ("heads-then-all", [4, None]),
        ("three-stage", [4, 4, None]),
        ("gradual", [1, 1, 1, 1, None]),
        ({"preset": "heads-then-all", "epochs": 0.5}, [0.5, None]),
        ({"preset": "three-stage", "epochs": 2}, [2, 2, None]),
        ({"preset": "gradual", "epochs": 3}, [3, 3, 3, 3, None]),
    ],
    ids=str,
)
def test_how_long_the_stages_are(preset, epochs, groups):
    assert [stage.epochs for stage in build_schedule(preset, groups, num_train_epochs=12).stages] == epochs


@pytest.mark.parametrize(
    ("preset", "decay"),
    [
        ("gradual", 1 / 2.6),
        ({"preset": "gradual", "layer_lr_decay": 0.8}, 0.8),
        ({"preset": "gradual", "layer_lr_decay": None}, None),
        ("heads-then-all", None),
    ],
    ids=str,
)
def test_gradual_has_lower_rates_for_lower_layers(preset, decay, groups):
    schedule = build_schedule(preset, groups, 12)
    assert {stage.layer_lr_decay for stage in schedule.stages} == {decay}
    assert schedule.sets_rates == (decay is not None)


@pytest.mark.parametrize(
    ("preset", "metric", "followed"),
    [
        ("progressive", None, "loss"),
        ("progressive", "eval_joint_accuracy", "joint_accuracy"),
        ({"preset": "progressive", "metric": "slots_f1"}, "joint_accuracy", "slots_f1"),
    ],
    ids=str,
)
def test_progressive_follows_a_metric_and_the_gap(preset, metric, followed, groups):
    schedule = build_schedule(preset, groups, 12, metric)
    assert schedule.watched_metrics == [followed]
    assert [stage.until is None for stage in schedule.stages] == [False] * 4 + [True]
    assert all(stage.until.watch_gap for stage in schedule.stages[:-1])


def test_progressive_goes_on_at_the_first_evaluation_without_any_improvement(groups):
    until = build_schedule("progressive", groups, 12).stages[0].until
    assert (until.patience, until.min_delta, until.max_epochs) == (1, 0, None)


def test_progressive_takes_patience_least_change_and_bound(groups):
    spec = {"preset": "progressive", "patience": 2, "min_delta": 0.01, "max_epochs": 4}
    until = build_schedule(spec, groups, 12).stages[0].until
    assert (until.patience, until.min_delta, until.max_epochs) == (2, 0.01, 4)


@pytest.mark.parametrize("file", ["freeze.yaml", "freeze.yml", "freeze.json"])
@pytest.mark.parametrize("as_path", [True, False])
def test_a_file_holds_stages(file, as_path, groups, tmp_path):
    path = tmp_path / file
    FreezeSchedule([FreezeStage("a", train="heads", steps=2), FreezeStage("b")]).save(path)
    schedule = build_schedule(path if as_path else str(path), groups, 3)
    assert trained(schedule, groups) == [HEADS, ENCODER + HEADS]


def test_a_schedule_stays_as_it_is(groups):
    schedule = FreezeSchedule([FreezeStage("a", train="heads")])
    assert build_schedule(schedule, groups, 3) is schedule


def test_a_preset_with_protection(groups):
    spec = {"preset": "head:intent", "protect": {"intent": {"distill": 0.5}}}
    assert build_schedule(spec, groups, 3).protect == {"intent": Protection(0.5)}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradul", r"'gradul' is neither a preset \(none, all, .* nor a group.*unknown group 'gradul'"),
        ("head:intnt", "'head:intnt' is neither a preset .*unknown group 'head.intnt'. Did you mean 'head.intent'"),
        ("encoder+head:slot", "unknown group 'head.slot'. Did you mean 'head.slots'"),
        ("top:0", "preset 'top:0': the encoder has 3 layers; allowed: top:1 to top:3"),
        ("top:4", "preset 'top:4': the encoder has 3 layers; allowed: top:1 to top:3"),
        ("top:x", "'top:x' is neither a preset"),
        ("", "'' is neither a preset"),
        (["head.intnt"], "unknown group 'head.intnt'. Did you mean 'head.intent'"),
        (3, "freeze: expected a preset, groups, stages or a file of them, found 3"),
        (None, "freeze: expected a preset, groups, stages or a file of them, found nothing"),
        ({"preset": "gradual", "epoch": 1}, "preset 'gradual': unknown option 'epoch'. Did you mean 'epochs'"),
        ({"preset": "gradual", "num_train_epochs": 1}, "preset 'gradual': unknown option 'num_train_epochs'"),
        ({"preset": "three-stage", "groups": "heads"}, "preset 'three-stage': unknown option 'groups'"),
        ({"preset": "encoder", "epochs": 1}, "preset 'encoder' has no options, found epochs"),
        ({"preset": "top:2", "epochs": 1}, "preset 'top:2': unknown preset with options 'top:2'"),
        ({"preset": "gradul"}, "'gradul' is neither a preset"),
        ({"preset": "gradual", "epochs": "one"}, "epochs"),
        ({"preset": "gradual", "epochs": 0}, "epochs must be above 0"),
        ({"preset": "progressive", "patience": 0}, "patience must be at least 1"),
        ({"preset": "none", "protect": {"intent": {"distill": 1}}}, "protect: there is no stage in which head.intent"),
        ({"presets": "none"}, "unknown key of the schedule 'presets'"),
        ({"stages": [{"train": "hads"}]}, "stage 'stage 1': unknown group 'hads'. Did you mean 'heads'"),
    ],
    ids=str,
)
def test_what_stands_for_no_schedule_is_refused(spec, message, groups):
    with pytest.raises(ValueError, match=message):
        build_schedule(spec, groups, 3)


def test_a_misspelt_preset_is_answered_with_the_closest_one(groups):
    with pytest.raises(ValueError, match=r"Did you mean 'gradual'"):
        build_schedule("gradul", groups, 3)


def test_options_that_yaml_takes_for_strings_are_numbers(groups):
    schedule = build_schedule({"preset": "gradual", "layer_lr_decay": "5e-1", "epochs": "1e0"}, groups, 12)
    assert schedule.stages[0].layer_lr_decay == 0.5
    assert schedule.stages[0].epochs == 1.0


def test_a_file_that_is_not_there_is_refused(groups, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"this freeze schedule file does not exist"):
        build_schedule(str(tmp_path / "freeze.yaml"), groups, 3)


def test_a_wrong_file_is_named(groups, tmp_path):
    path = tmp_path / "freeze.json"
    path.write_text(json.dumps({"stages": [{"trian": "heads"}]}))
    with pytest.raises(ValueError, match=r"freeze.json: stage 'stage 1': unknown key 'trian'. Did you mean 'train'"):
        build_schedule(path, groups, 3)


STOCK = {
    "bert": (
        BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20),
        ["embeddings", "encoder.0", "encoder.1", "encoder.norm", "head.classifier"],
    ),
    "distilbert": (
        DistilBertConfig(dim=8, n_layers=2, n_heads=2, hidden_dim=8, vocab_size=20),
        ["embeddings", "encoder.0", "encoder.1", "head.pre_classifier", "head.classifier"],
    ),
    "roberta": (
        RobertaConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20),
        ["embeddings", "encoder.0", "encoder.1", "head.classifier"],
    ),
}


@pytest.mark.parametrize("architecture", STOCK)
def test_each_part_that_a_stock_model_has_on_its_encoder_is_a_head(architecture):
    config, names = STOCK[architecture]
    groups = layer_groups(AutoModelForSequenceClassification.from_config(config))
    assert [group.name for group in groups] == names
    heads = [name for name in names if name.startswith("head.")]
    assert trained(build_schedule("heads-then-all", groups, 3), groups) == [heads, names]
    assert trained(build_schedule("head:classifier", groups, 3), groups) == [
        [name for name in names if name != "head.classifier"]
    ]
