"""Search spaces: keys, ranges, choices, and the values of a trial in a config."""

from dataclasses import replace

import pytest

from hf_multitask import RunConfig
from hf_multitask.tuning.parameters import apply_values
from hf_multitask.tuning.space import build_parameters, read_space

TASKS = [
    {"name": "intent", "type": "sequence_classification", "head": "linear", "label_smoothing": 0.1},
    {"name": "slots", "type": "token_classification", "head": "linear", "mix_layers": False, "label_smoothing": 0.1},
]


@pytest.fixture
def config(tmp_path):
    training = {"learning_rate": 1.234e-4, "head_learning_rate": 1e-3, "num_train_epochs": 4}
    values = {
        "encoder": "encoder",
        "tasks": TASKS,
        "data": {"train": "train.jsonl", "validation": "validation.jsonl", "label_subwords": "all"},
        "training": {**training, "per_device_train_batch_size": 6},
        "output_dir": str(tmp_path / "out"),
    }
    return RunConfig.from_dict(values)


def by_key(parameters):
    return {parameter.key: parameter for parameter in parameters}


def test_the_default_space_contains_the_config_itself(config):
    parameters = build_parameters(config, None)
    base = {parameter.key: parameter.base for parameter in parameters}
    assert base["training.learning_rate"] == 1.234e-4
    assert 6 in by_key(parameters)["training.per_device_train_batch_size"].choices
    epochs = by_key(parameters)["training.num_train_epochs"]
    assert (epochs.is_integer, epochs.low, epochs.base, epochs.high) == (True, 2, 4, 6)
    config.training["num_train_epochs"] = 2.5
    epochs = by_key(build_parameters(config, None))["training.num_train_epochs"]
    assert (epochs.is_integer, epochs.low, epochs.base, epochs.high) == (False, 1.0, 2.5, 4.0)
    assert {"tasks.slots.head", "tasks.slots.mix_layers", "data.label_subwords", "freeze"} <= base.keys()
    assert "tasks.intent.head" not in base
    for parameter in parameters:
        if parameter.choices is None:
            assert parameter.low <= parameter.base <= parameter.high
        assert parameter.decode(parameter.base) == parameter.base


def test_values_are_put_into_the_config(config):
    space = {
        "training.learning_rate": {"low": "1e-5", "high": 1e-3, "log": True},
        "head_rate_factor": {"low": 1, "high": 20},
        "tasks.slots.head": ["linear", "lstm"],
        "freeze": ["none", ["embeddings"]],
        "data.label_subwords": ["first", "all"],
        "sampling.strategy": ["proportional", "uniform"],
    }
    parameters = by_key(build_parameters(config, space))
    drawn = {
        "training.learning_rate": 0.00012345678,
        "head_rate_factor": 3.0,
        "tasks.slots.head": "lstm",
        "freeze": '["embeddings"]',
        "data.label_subwords": "first",
        "sampling.strategy": "uniform",
    }
    changed = apply_values(config, {key: parameters[key].decode(value) for key, value in drawn.items()})
    assert changed.training["learning_rate"] == 0.000123
    assert changed.training["head_learning_rate"] == 0.000369
    assert [task.head for task in changed.tasks] == ["linear", "lstm"]
    assert changed.freeze == ["embeddings"]
    assert changed.data.label_subwords == "first"
    assert changed.sampling.strategy == "uniform"
    assert config.tasks[1].head == "linear"


@pytest.mark.parametrize(("epochs", "delay"), [(6, 4), (10, 8), (14, 12), (1, 0)])
def test_a_trial_of_other_epochs_evaluates_as_many_of_its_last(config, epochs, delay):
    training = {**config.training, "num_train_epochs": 10, "eval_delay": 8, "eval_strategy": "epoch"}
    changed = apply_values(replace(config, training=training), {"training.num_train_epochs": epochs})
    assert changed.training_arguments().eval_delay == delay


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training.learning_rat": [1e-4]}, "Did you mean 'training.learning_rate'"),
        ({"tasks.slot.head": ["linear"]}, "Did you mean 'tasks.slots.head'"),
        ({"frieze": ["none"]}, "Did you mean 'freeze'"),
        ({"training.output_dir": ["a"]}, "unknown key in the search space"),
        ({"training.learning_rate": 1e-4}, "expected a list of choices, or a range"),
        ({"training.learning_rate": {"low": 1e-4}}, "expected a list of choices, or a range"),
        ({"training.learning_rate": {"low": 1e-3, "high": 1e-4}}, "low must be below high"),
        ({"training.learning_rate": {"low": 0, "high": 1e-4, "log": True}}, "above 0 if log"),
        ({"training.ema_decay": {"low": 0.9, "high": 0.99}}, r"is None in the config.*\[null, 0.9, 0.99\]"),
        ({"head_rate_factor": [1, 2], "training.head_learning_rate": [1e-3]}, "exclude each other"),
        ({}, "space is empty"),
    ],
)
def test_a_wrong_space_is_refused(config, space, message):
    with pytest.raises(ValueError, match=message):
        build_parameters(config, space)


def test_a_file_of_a_space_is_read(tmp_path):
    path = tmp_path / "space.yaml"
    with pytest.raises(FileNotFoundError, match="no such file of a search space"):
        read_space(path)
    path.write_text("freeze: [none, 'top:2']\n")
    assert read_space(path) == {"freeze": ["none", "top:2"]}
    path.write_text("- freeze\n")
    with pytest.raises(ValueError, match="expected a mapping of keys, found list"):
        read_space(path)
