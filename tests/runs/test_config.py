"""Config of a run: its values, defaults and errors."""

import pytest
import yaml

from hf_multitask import RunConfig
from hf_multitask.cli.overrides import parse_overrides

VALUES = {
    "encoder": "somewhere",
    "tasks": [
        {"name": "intent", "type": "sequence_classification"},
        {"name": "slots", "type": "token_classification"},
    ],
    "data": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl", "unseen_labels": "error"},
    "freeze": "none",
    "training": {"num_train_epochs": 5, "learning_rate": 3.0e-4, "head_learning_rate": 2.0e-3, "seed": 0},
    "output_dir": "out/snips",
}


@pytest.fixture
def write(tmp_path):
    def write_config(values):
        path = tmp_path / "config.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        return path

    return write_config


def test_the_contract_is_read(write):
    config = RunConfig.from_file(write(VALUES))
    assert [task.name for task in config.tasks] == ["intent", "slots"]
    assert config.output_dir == "out/snips"
    arguments = config.training_arguments()
    assert arguments.num_train_epochs == 5
    assert arguments.learning_rate == 3e-4
    assert arguments.peak_head_learning_rate == 2e-3
    assert arguments.load_best_model_at_end


def test_files_and_encoder_folder_are_relative_to_the_config(write, tmp_path):
    (tmp_path / "somewhere").mkdir()
    config = RunConfig.from_file(write(VALUES))
    assert config.data.train == str(tmp_path / "train.jsonl")
    assert config.encoder == str(tmp_path / "somewhere")


def test_hub_names_stay_as_they_are(write):
    data = {"name": "conll2003", "train": "train", "validation": "validation"}
    config = RunConfig.from_file(write({**VALUES, "encoder": "user/model", "data": data}))
    assert config.data.train == "train"
    assert config.encoder == "user/model"


def test_any_field_can_be_overridden(write):
    options = ["--training.num_train_epochs", "1", "--freeze=[encoder, head.slots]", "--data.train", "other.jsonl"]
    options += [
        "--training.bf16-full-eval",
        "false",
        "--training.lr_scheduler_kwargs",
        "{a: 1}",
        "--data.test",
        "null",
    ]
    config = RunConfig.from_file(write(VALUES), parse_overrides(options))
    arguments = config.training_arguments()
    assert arguments.num_train_epochs == 1
    assert arguments.lr_scheduler_kwargs == {"a": 1}
    assert config.freeze == ["encoder", "head.slots"]
    assert config.data.train == "other.jsonl"
    assert config.data.test is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stray"], "unexpected argument 'stray'"),
        (["--seed"], "option --seed has no value"),
        (["--seed", "--other", "1"], "option --seed has no value"),
        (["--freeze", "[a"], "option --freeze: expected YAML"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'. Did you mean 'training'"),
        ({"data": {"trian": "a"}}, "unknown key in data 'trian'. Did you mean 'train'"),
        ({"data": {"test": "a"}}, "data.train is missing"),
        ({"data": "train.jsonl"}, "data must be a mapping"),
        ({"tasks": [{"name": "a", "type": "token_clasification"}]}, "Did you mean 'token_classification'"),
        ({"tasks": [{"name": "a", "kind": "x"}]}, "task 'a': unknown key 'kind'"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": {"a": 1}}, "tasks must be a list"),
        ({"encoder": None}, "the key 'encoder' is missing"),
        ({"encoder": 3}, "encoder: expected a string, found 3"),
        (
            {"training": {"num_train_epoch": 1}},
            "unknown key in training 'num_train_epoch'. Did you mean 'num_train_epo",
        ),
        ({"training": {"num_train_epochs": "many"}}, "training.num_train_epochs: expected a number, found 'many'"),
        ({"training": {"output_dir": "x"}}, "training.output_dir is the run's output_dir"),
        ({"training": 3}, "training: expected a mapping, found 3"),
        ({"data": {"train": "a", "unseen_labels": 3}}, "data.unseen_labels: expected a string, found 3"),
    ],
)
def test_wrong_configs_are_refused_with_the_file(change, message, write):
    path = write({**VALUES, **change})
    with pytest.raises(ValueError, match=message) as error:
        RunConfig.from_file(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "config.yaml: expected YAML"), ("- a", "config.yaml: expected a mapping of keys, found list")],
)
def test_a_file_that_is_no_config_is_refused(content, message, write):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_file(write(content))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.yaml: there is no such config file"):
        RunConfig.from_file(tmp_path / "no.yaml")


def test_without_validation_there_is_no_best_epoch(write):
    arguments = RunConfig.from_file(write({**VALUES, "data": {"train": "a.jsonl"}})).training_arguments()
    assert not arguments.load_best_model_at_end
    assert arguments.eval_strategy == "no"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": [{"name": 5, "type": "token_classification"}]}, "task 5: name: expected a string, found 5"),
        ({"output_dir": ""}, "output_dir is empty"),
        ({"pooling": "sum"}, "unknown pooling 'sum'"),
        ({"effort": ["quick"]}, r"effort: expected a string, found \['quick'\]"),
        ({"freeze": 5}, "freeze: expected a string, a list of strings or a mapping, found 5"),
        ({"sampling": {"temperature": "hot"}}, "sampling.temperature: expected a number, found 'hot'"),
        ({"data": [{"train": "a", "folds": "x"}]}, r"data\[0\].folds: expected a whole number or nothing, found 'x'"),
        ({"data": {"train": "a", "max_length": 0}}, "max_length must be at least 1, found 0"),
        ({"distill": {"teacher": 3}}, "distill: teacher: expected a string or a list of strings, found 3"),
        ({"training": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps must be at least 1, found 0"),
        ({"training": {"per_device_train_batch_size": 0}}, "per_device_train_batch_size must be at least 1, found 0"),
        ({"training": {"learning_rate": "1e400"}}, "training.learning_rate: expected a number, found '1e400'"),
        ({"training": {"learning_rate": [1e-5, 2]}}, "training.learning_rate: expected a number, found "),
        ({"training": {"num_train_epochs": 0}}, "num_train_epochs must be above 0, found 0"),
        ({"training": {"seed": -1}}, "seed must be between 0 and 4294967295, found -1"),
        ({"training": {"bf16": "no"}}, "training.bf16: expected true or false, found 'no'"),
    ],
)
def test_values_of_wrong_types_or_out_of_range_are_refused(change, message, write):
    path = write({**VALUES, **change})
    with pytest.raises(ValueError, match=message) as error:
        RunConfig.from_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_without_quotes_is_the_value_of_that_name(write):
    text = "encoder: e\noutput_dir: o\ntasks: [{name: a, type: token_classification}]\ndata: {train: a.jsonl}\n"
    config = RunConfig.from_file(write(text + "freeze: no\ntraining: {save_strategy: no}\n"))
    assert config.freeze == "none"
    assert config.training_arguments().save_strategy == "no"


@pytest.mark.parametrize(("value", "expected"), [([], []), (["tensorboard", "trackio"], ["tensorboard", "trackio"])])
def test_trackers_may_be_a_list(value, expected, write):
    config = RunConfig.from_file(write({**VALUES, "training": {"report_to": value}}))
    assert config.training_arguments().report_to == expected


def test_values_that_no_config_can_contain_are_refused_with_the_file(write):
    path = write("encoder: 2020-01-01\n")
    with pytest.raises(ValueError, match=r"encoder: expected a string, .* found the date 2020-01-01") as error:
        RunConfig.from_file(path)
    assert str(error.value).startswith(f"{path}: ")
