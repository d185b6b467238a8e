"""Settings that are chosen from the data and the encoder, and their reasons."""

from dataclasses import replace

import pytest

from hf_multitask import MultiTaskTrainingArguments, TaskConfig, choose_settings
from hf_multitask.data.labels.seen_types import SeenTypes
from hf_multitask.training.settings import (
    EFFORTS,
    EPOCHS_OF_MANY_ROWS,
    EVALUATION_KEYS,
    IMPLIED,
    MAX_EPOCHS,
    MAX_RATE,
    MIN_EPOCHS,
    RULES,
    RunFacts,
    batch_size,
    choose_label_subwords,
    learning_rates,
    num_epochs,
)

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b"], problem_type="single_label_classification")
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])
FACTS = RunFacts([INTENT, SLOTS], rows=400, validation_rows=100, fully_labeled=True, width=384, depth=6)


def test_each_effort_gives_a_complete_run():
    for effort in EFFORTS:
        settings = choose_settings(FACTS, effort=effort)
        chosen = {"num_train_epochs", "per_device_train_batch_size", "learning_rate", "head_learning_rate"}
        assert chosen <= set(settings.training)
        assert all(task.head and task.label_smoothing is not None for task in settings.tasks)
        assert all(setting.reason for setting in settings.chosen)


def test_more_effort_takes_more_time():
    steps = [num_epochs(400, effort) * 400 / batch_size(400, effort) for effort in EFFORTS]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)
    heads = [choose_settings(FACTS, effort=effort).tasks[1].head for effort in EFFORTS]
    assert heads == ["linear", "linear", "lstm"]


def test_more_rows_take_fewer_epochs_and_larger_batches():
    rows = [10, 50, 100, 400, 1000, 1500, 3400, 10_000, 50_000, 10**6]
    epochs, sizes = ([rule(count, "standard") for count in rows] for rule in (num_epochs, batch_size))
    assert epochs == sorted(epochs, reverse=True)
    assert sizes == sorted(sizes)
    assert (epochs[0], epochs[-1]) == (MAX_EPOCHS, EPOCHS_OF_MANY_ROWS)
    assert min(epochs[:-2]) == MIN_EPOCHS


@pytest.mark.parametrize(
    ("width", "depth", "lowest", "highest"),
    [(384, 6, 2e-4, 2e-4), (768, 12, 2e-5, 5e-5), (1024, 24, 1e-5, 3e-5), (128, 2, 4e-4, 6e-4)],
)
def test_larger_encoders_have_lower_rates(width, depth, lowest, highest):
    encoder, heads = learning_rates(width, depth)
    assert lowest <= encoder <= highest
    assert heads > encoder
    short, _ = learning_rates(width, depth, steps=100)
    assert short > encoder or short == MAX_RATE


@pytest.mark.parametrize("key", sorted({s.key for rule in RULES for s in rule(FACTS, "standard")}))
def test_what_is_given_is_not_chosen(key):
    name = key.split(".")[-1]
    if key.startswith("tasks."):
        value = {"head": "linear", "mix_layers": False, "label_smoothing": 0.3}[name]
        tasks = [replace(task, **{name: value}) if task.name in key else task for task in FACTS.tasks]
        settings = choose_settings(replace(FACTS, tasks=tasks), effort="thorough")
        assert getattr({task.name: task for task in settings.tasks}[key.split(".")[1]], name) == value
    else:
        settings = choose_settings(FACTS, given=[key])
    keys = {setting.key for setting in settings.chosen}
    assert key not in keys
    if key not in EVALUATION_KEYS | set(IMPLIED) | {"training.num_train_epochs"}:
        everything = {setting.key for setting in choose_settings(FACTS, effort=settings.effort).chosen}
        assert everything - keys == {key}, "nothing else is left out"


def test_settings_that_depend_on_a_given_one_are_left_to_it():
    for given, left_out in IMPLIED.items():
        keys = {setting.key for setting in choose_settings(FACTS, given=[given]).chosen}
        assert not keys & set(left_out)
    keys = {setting.key for setting in choose_settings(FACTS, given=["training.save_strategy"]).chosen}
    assert not keys & EVALUATION_KEYS


def test_few_rows_are_evaluated_in_the_last_epochs_only():
    training = choose_settings(FACTS).training
    assert training["num_train_epochs"] - training["eval_delay"] == 2
    assert training["save_strategy"] == "best"
    for changes in ({"rows": 5000}, {"evaluates_each_epoch": True}):
        training = choose_settings(replace(FACTS, **changes)).training
        assert "eval_delay" not in training
        assert training["save_strategy"] == "epoch"
    for given in ("training.num_train_epochs", "training.max_steps"):
        training = choose_settings(FACTS, given=[given]).training
        assert "eval_delay" not in training
        assert training["save_strategy"] == "epoch"


def test_labels_constrain_entity_types_as_far_as_the_rows_say():
    counts = {"a": {"x": 200}, "b": {"y": 199, "z": 1}}
    slots = replace(SLOTS, labels=[f"B-{kind}" for kind in "xyz"])
    facts = replace(FACTS, tasks=[INTENT, slots], seen_types={"slots": {"intent": SeenTypes(400, counts)}})
    settings = choose_settings(facts)
    (setting,) = [item for item in settings.chosen if item.key == "tasks.slots.constrained_by"]
    assert setting.value == "intent"
    assert setting.reason.startswith("only 3 of 6 pairs of a label of intent and an entity type occur; about 0.5% of")
    (_, slots) = settings.tasks
    assert slots.types_by_label == {"a": ["x"], "b": ["y", "z"]}
    assert slots.unseen_types_share == 2 / 400


def test_labels_that_were_seen_with_every_entity_type_do_not_constrain():
    facts = replace(FACTS, seen_types={"slots": {"intent": SeenTypes(400, {"a": {"x": 1}, "b": {"x": 3}})}})
    assert not [item for item in choose_settings(facts).chosen if item.key.endswith("constrained_by")]
    assert choose_settings(facts).tasks[1].constrained_by is False


def test_the_task_that_excludes_most_constrains():
    by_task = {
        "intent": SeenTypes(400, {"a": {"x": 200, "y": 100}, "b": {"y": 100}}),
        "topic": SeenTypes(400, {"s": {"x": 200}, "t": {"y": 200}}),
    }
    slots = replace(SLOTS, labels=["B-x", "B-y"])
    settings = choose_settings(replace(FACTS, tasks=[INTENT, slots], seen_types={"slots": by_task}))
    assert settings.tasks[1].constrained_by == "topic"


def test_without_validation_nothing_is_evaluated():
    training = choose_settings(replace(FACTS, validation_rows=0)).training
    assert (training["eval_strategy"], training["load_best_model_at_end"]) == ("no", False)
    assert "metric_for_best_model" not in training


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({}, "joint_accuracy"),
        ({"fully_labeled": False}, "mean_score"),
        ({"tasks": [SLOTS]}, "slots_f1"),
        ({"tasks": [INTENT]}, "intent_accuracy"),
        ({"tasks": [TaskConfig("score", "sequence_classification", problem_type="regression")]}, "loss"),
    ],
)
def test_the_metric_that_chooses_the_epoch(changes, metric):
    training = choose_settings(replace(FACTS, **changes)).training
    assert training["metric_for_best_model"] == metric
    assert training["greater_is_better"] == (metric != "loss")


def test_a_step_has_as_many_rows_however_many_processes_train():
    assert choose_settings(replace(FACTS, rows=5000)).training["per_device_train_batch_size"] == 16
    shared = choose_settings(replace(FACTS, rows=5000, batches_per_step=4)).training
    assert shared["per_device_train_batch_size"] == 4


def test_thorough_runs_of_token_tasks_have_an_lstm_and_word_dropout():
    for effort in EFFORTS:
        settings = choose_settings(FACTS, effort=effort)
        is_thorough = effort == "thorough"
        assert [task.head for task in settings.tasks] == ["linear", "lstm" if is_thorough else "linear"]
        assert settings.tasks[1].mix_layers is is_thorough
        assert settings.training.get("word_dropout", 0.0) == (0.1 if is_thorough else 0.0)
    assert "word_dropout" not in choose_settings(replace(FACTS, tasks=[INTENT]), effort="thorough").training


def test_tags_whose_encoder_trains_on_rows_of_other_tasks_have_an_lstm():
    apart = replace(FACTS, rows=5000, shares_rows=False)
    for effort in EFFORTS:
        _, slots = choose_settings(apart, effort=effort).tasks
        assert (slots.head, slots.mix_layers) == ("lstm", True)
    changes = (
        {"tasks": [SLOTS, replace(SLOTS, name="more")]},
        {"tasks": [INTENT, replace(SLOTS, private_layers=1)]},
        {"rows": 400},
        {"rows": None},
        {"shares_rows": True},
        {"freezes_layers": True},
        # Neither is chosen without the other.
        {"tasks": [INTENT, replace(SLOTS, head="linear")]},
        {"tasks": [INTENT, replace(SLOTS, mix_layers=False)]},
    )
    for change in changes:
        chosen = choose_settings(replace(apart, **change)).tasks
        assert all((task.head, task.mix_layers) == ("linear", False) for task in chosen)


def test_many_labels_have_a_higher_rate_of_the_heads():
    many = replace(INTENT, labels=[str(i) for i in range(150)])
    facts = replace(FACTS, rows=15_000, tasks=[INTENT])
    rates = {
        name: choose_settings(replace(facts, tasks=tasks)).training["head_learning_rate"]
        for name, tasks in {"few": [INTENT], "many": [many], "with tags": [many, SLOTS]}.items()
    }
    assert rates == {"few": 1.5e-3, "many": 5e-3, "with tags": 1.5e-3}


def test_losses_that_smoothing_does_not_fit_have_none():
    tasks = [
        replace(INTENT, problem_type="regression", labels=None),
        replace(SLOTS, crf=True),
    ]
    assert [task.label_smoothing for task in choose_settings(replace(FACTS, tasks=tasks)).tasks] == [0.0, 0.0]


def test_subwords_are_labeled_for_token_tasks_only():
    assert choose_label_subwords([INTENT], 400) is None
    assert choose_label_subwords([INTENT, SLOTS], 400).value == "all"
    assert choose_label_subwords([INTENT, SLOTS], 5000).value == "first"
    assert choose_label_subwords([INTENT, SLOTS], None).value == "first", "a stream"


def test_an_unknown_effort_is_refused():
    with pytest.raises(ValueError, match=r"unknown effort 'thorogh'\. Did you mean 'thorough'"):
        choose_settings(FACTS, effort="thorogh")


def test_the_table_fits_and_has_each_setting(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    settings = choose_settings(FACTS)
    lines = str(settings).splitlines()
    assert lines[0] == "Settings chosen for 400 training rows, effort standard; give a key to set it yourself:"
    assert all(len(line) <= 100 for line in lines)
    assert [line.split()[0] for line in lines[1:] if line.startswith("  ") and line[2] != " "] == [
        setting.key for setting in settings.chosen
    ]


def test_arguments_for_data(model, data, tmp_path):
    config = model.config.encoder_config
    arguments = MultiTaskTrainingArguments.for_data(data, config, tmp_path, warmup_steps=0.2, report_to="none")
    expected = choose_settings(data, config).training
    assert arguments.learning_rate == expected["learning_rate"]
    assert arguments.num_train_epochs == expected["num_train_epochs"]
    assert arguments.warmup_steps == 0.2
    with pytest.raises(ValueError, match="encoder_config is missing"):
        choose_settings(data)
