"""Choices on the page become the config of a run."""

from dataclasses import replace

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.app.choices import (
    AS_IN_CONFIG,
    build_config,
    config_as_yaml,
    default_choices,
    freezable_groups,
    parse_tasks,
    schedule_names,
    tasks_as_yaml,
)
from hf_multitask.app.markup import notice, table
from hf_multitask.app.plan_cache import PlanCache, is_everything_frozen
from hf_multitask.app.study_tables import curve_names, study_curves, study_table
from hf_multitask.app.task_edits import (
    FIELDS,
    NUMBER,
    ONE_LABEL,
    TAGS,
    add_task,
    change_task,
    kind_of,
    remove_task,
    show_tasks,
)
from hf_multitask.models import TaskConfig
from hf_multitask.quickstart import QUICKSTART_CONFIG
from hf_multitask.runs.inspection import inspect_data
from hf_multitask.runs.training import run_plan


def test_the_boxes_are_named_after_the_tasks(base):
    assert freezable_groups(base.tasks) == [
        ("freeze encoder", "encoder"),
        ("freeze head intent", "head.intent"),
        ("freeze head slots", "head.slots"),
    ]


@pytest.mark.parametrize(
    ("changes", "freeze"),
    [
        ({}, "none"),
        ({"frozen": ["encoder", "head.slots"]}, ["encoder", "head.slots"]),
        ({"frozen": ["head.gone"]}, "none"),
        ({"frozen": ["encoder"], "schedule": "three-stage"}, "three-stage"),
    ],
)
def test_choices_become_a_config(changes, freeze, base, services, tmp_path):
    config = build_config(
        base, replace(default_choices(base), epochs=7, **changes), services.workspace, tmp_path / "o"
    )
    assert config.freeze == freeze
    assert config.training["num_train_epochs"] == 7
    assert config.tasks == base.tasks
    assert config.data == base.data
    # The config is the same after a run reads it from its file.
    path = tmp_path / "config.yaml"
    path.write_text(config_as_yaml(config))
    assert RunConfig.from_file(path) == config


def test_the_schedule_of_the_config_is_offered_and_kept(base, services, tmp_path):
    staged = replace(base, freeze={"preset": "gradual", "epochs": 0.5})
    assert AS_IN_CONFIG in schedule_names(staged)
    assert AS_IN_CONFIG not in schedule_names(base)
    choices = default_choices(staged)
    assert choices.schedule == AS_IN_CONFIG
    assert build_config(staged, choices, services.workspace, tmp_path).freeze == staged.freeze


def test_tasks_have_one_line_each(base):
    text = tasks_as_yaml(base.tasks)
    assert text == ("- {name: intent, type: sequence_classification}\n- {name: slots, type: token_classification}")
    longer = text.replace("type: token_classification", "type: token_classification, column: tags, crf: true")
    assert tasks_as_yaml(parse_tasks(longer)) == longer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": "{"}, "^tasks: expected YAML"),
        ({"tasks": "hello"}, "^tasks: expected one line per task"),
        ({"tasks": "- {name: a, typ: x}"}, "unknown key 'typ'. Did you mean 'type'"),
        ({"epochs": 0}, "epochs: expected a number above 0, found 0"),
        ({"epochs": float("inf")}, "epochs: expected a number above 0, found inf"),
        ({"batch_size": 2.5}, "batch size: expected a whole number of rows, found 2.5"),
        ({"effort": "quik"}, "unknown effort 'quik'. Did you mean 'quick'"),
        ({"learning_rate": "a"}, "learning rate: expected a number above 0, found 'a'"),
        ({"encoder": "/etc"}, "encoder: expected a hub name .* or a model of .*, found '/etc'"),
        ({"encoder": "../secret"}, "encoder: expected a hub name"),
        ({"encoder": "a/../../b"}, "encoder: expected a hub name"),
        ({"encoder": "tests"}, "encoder: expected a hub name"),
    ],
)
def test_invalid_choices_are_refused(changes, message, base, services, tmp_path):
    with pytest.raises(ValueError, match=message):
        build_config(base, replace(default_choices(base), **changes), services.workspace, tmp_path)


def test_empty_numbers_are_left_to_the_run(base, services, tmp_path):
    choices = replace(default_choices(base), epochs=None, learning_rate=None, head_learning_rate=1e-3)
    training = build_config(base, choices, services.workspace, tmp_path).training
    assert training["head_learning_rate"] == 1e-3
    assert not {"num_train_epochs", "learning_rate"} & set(training)


def test_effort_head_and_rows_per_step_reach_the_config(base, services, tmp_path):
    choices = replace(default_choices(base), effort="thorough", batch_size=8.0, head="lstm")
    config = build_config(base, choices, services.workspace, tmp_path)
    assert config.effort == "thorough"
    assert config.training["per_device_train_batch_size"] == 8
    assert [task.head for task in config.tasks] == [None, "lstm"]
    # A head of the task's own stays.
    own = replace(choices, tasks=choices.tasks.replace("token_classification", "token_classification, head: linear"))
    assert [task.head for task in build_config(base, own, services.workspace, tmp_path).tasks] == [None, "linear"]


def test_calibration_and_abstaining_reach_the_config(base, services, tmp_path):
    assert default_choices(replace(base, calibrate=False)).calibrate is False
    choices = replace(default_choices(base), calibrate=False, abstain="knn")
    config = build_config(base, choices, services.workspace, tmp_path)
    assert config.calibrate is False
    # Tasks that mark words have an answer for each word.
    assert [task.abstention and task.abstention.method for task in config.tasks] == ["knn", None]
    own = replace(
        choices, tasks=choices.tasks.replace("sequence_classification", "sequence_classification, abstain: {}")
    )
    assert build_config(base, own, services.workspace, tmp_path).tasks[0].abstention.method == "energy"
    with pytest.raises(ValueError, match=r"abstain: .*'distance'.*energy"):
        build_config(base, replace(choices, abstain="distance"), services.workspace, tmp_path)
    plain = build_config(base, default_choices(base), services.workspace, tmp_path)
    assert [task.abstain for task in plain.tasks] == [None, None]


def test_values_of_the_form_become_choices(base):
    form = pytest.importorskip("hf_multitask.app.train_form")
    values_of, read_form = form.values_of, form.read_form
    texts = {"epochs": "", "learning_rate": "1e-3", "head_learning_rate": "fast", "batch_size": " 8 ", "head": ""}
    values = {**values_of(default_choices(base)), **texts}
    data, choices = read_form(["snips", *values.values()])
    assert data == "snips"
    assert (choices.epochs, choices.learning_rate, choices.head_learning_rate) == (None, 1e-3, "fast")
    assert (choices.batch_size, choices.head) == (8.0, None)
    assert (choices.calibrate, choices.abstain) == (True, None)
    assert read_form(["snips", *values_of(choices).values()]) == (data, choices)


def test_the_fields_of_a_task_change_its_yaml_and_keep_the_rest(base):
    text = (
        "- {name: a, type: sequence_classification, loss_weight: 2.0}\n"
        "- {name: b, type: token_classification, crf: true}"
    )
    assert [kind_of(task) for task in parse_tasks(text)] == [ONE_LABEL, TAGS]
    renamed = parse_tasks(change_task(text, 0, " topic ", ONE_LABEL, "what"))
    assert renamed[0] == TaskConfig("topic", "sequence_classification", column="what", loss_weight=2.0)
    assert renamed[1].crf
    (_, number) = parse_tasks(change_task(text, 1, "b", NUMBER, "b"))
    assert number == TaskConfig("b", "sequence_classification", problem_type="regression")
    assert [task.column for task in parse_tasks(add_task(text, ["text", "a", "b", "c d"]))] == ["a", "b", "c d"]
    assert [task.name for task in parse_tasks(add_task(text, ["a", "b"]))][2] == "column_3"
    assert remove_task(text, 0) == "- {name: b, type: token_classification, crf: true}"
    with pytest.raises(ValueError, match="a model needs at least one task"):
        remove_task(remove_task(text, 0), 0)
    with pytest.raises(ValueError, match="expected letters, digits and underscores"):
        change_task(text, 0, "a b", ONE_LABEL, "a")


def test_as_many_fields_are_shown_as_there_are_tasks(base):
    shown = show_tasks(base.tasks, ["text", "intent", "slots", "id"])
    assert [shown[FIELDS * i].get("visible") for i in range(3)] == [True, True, False]
    assert shown[3] == {"choices": ["intent", "slots", "id"], "value": "intent"}
    # The last task cannot be removed.
    assert show_tasks(base.tasks[:1], [])[4] == {"interactive": False}


def test_a_run_can_continue_from_a_model_of_the_workspace(base, services, save_model, app_config, tmp_path):
    folder = save_model(app_config, services.workspace.root / "first")
    config = build_config(base, replace(default_choices(base), encoder="first"), services.workspace, tmp_path)
    assert config.encoder == str(folder)


def test_plans_equal_those_of_the_command_and_follow_each_choice(base, services, tmp_path):
    cache = PlanCache()
    given = default_choices(base)
    for changes in (
        {},
        {"frozen": ["encoder"]},
        {"frozen": ["encoder", "head.intent", "head.slots"]},
        {"schedule": "three-stage", "epochs": 6, "learning_rate": 5e-4},
        {"schedule": "gradual", "epochs": 8},
    ):
        config = build_config(base, replace(given, **changes), services.workspace, tmp_path)
        stages = cache.plan(config)
        assert stages == run_plan(config)
        assert is_everything_frozen(stages) == (len(changes.get("frozen", [])) == 3)
    with pytest.raises(ValueError, match="allowed: top:1 to top:3"):
        cache.plan(build_config(base, replace(given, schedule="top:9"), services.workspace, tmp_path))
    # Other tasks need another model.
    fewer = replace(given, tasks=tasks_as_yaml(base.tasks[:1]))
    (stage,) = cache.plan(build_config(base, fewer, services.workspace, tmp_path))
    assert "head.slots" not in stage.trained_groups


def test_the_bundled_data_is_available_at_once(tmp_path, monkeypatch):
    from hf_multitask.app.services import BUNDLED_DATA, Services

    monkeypatch.chdir(tmp_path)
    services = Services("out")
    assert services.data_names() == [BUNDLED_DATA]
    base = services.base_config(BUNDLED_DATA)
    assert [task.name for task in base.tasks] == ["topic", "entities"]
    assert base.data_configs[0].train == str(QUICKSTART_CONFIG.parent / "data" / "train.jsonl")
    with pytest.raises(ValueError, match=r"data '\.\./x' does not exist any more"):
        services.base_config("../x")


def test_an_invalid_config_is_reported_at_the_start(tmp_path):
    from hf_multitask.app.services import Services

    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"encoder": "x"}))
    with pytest.raises(ValueError, match="the key 'tasks' is missing"):
        Services(tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_the_figure_is_drawn_once(services, base, app_config):
    choices = default_choices(base)
    path = services.figure(str(app_config), choices)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.is_relative_to(services.workspace.received_dir)
    written = path.stat().st_mtime_ns
    assert services.figure(str(app_config), choices) == path
    assert path.stat().st_mtime_ns == written
    assert inspect_data(base, 0).datasets[0].tasks == ["intent", "slots"]


def test_a_study_becomes_a_table_of_numbers_and_curves(save_study, tmp_path):
    from hf_multitask.study import load_study

    study = load_study(save_study(tmp_path / "s"))
    header, rows = study_table(study)
    assert header[:5] == ["scenario", "rows", "intent_accuracy", "slots_f1", "mean score"]
    assert [row[0] for row in rows] == ["nothing frozen", "encoder frozen", "gradual"]
    assert [row[header.index("time, s")] for row in rows] == [20.0, 5.0, 30.0]
    assert [row[header.index("not beaten")] for row in rows] == ["yes", "yes", ""]
    names = curve_names(study)
    assert list(names) == [
        "intent: accuracy on validation",
        "slots: f1 on validation",
        "intent: loss on validation",
        "slots: loss on validation",
    ]
    points = study_curves(study, 100, names["slots: f1 on validation"])
    assert len(points) == 9
    assert points[2] == (3.0, pytest.approx(0.8), "nothing frozen")
    (tmp_path / "s" / "runs" / "gradual.json").unlink()
    assert len(study_curves(study, 100, names["slots: f1 on validation"])) == 6


def test_untrusted_html_is_escaped():
    assert notice("<script>") == '<p class="notice info" role="status">&lt;script&gt;</p>'
    assert '<td data-column="x&quot;">a<br>&lt;b&gt;</td>' in table(['x"'], [["a\n<b>"]])
