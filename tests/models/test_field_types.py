"""Types of the fields of configs: what is converted, and what is refused with field, expected and found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_multitask.data import DataConfig, Sampling
from hf_multitask.freezing.stage import FreezeStage
from hf_multitask.models import TaskConfig
from hf_multitask.models.field_types import check_fields, checked_value, describe_type
from hf_multitask.models.predictor import OutputOptions


@dataclass
class Everything:
    name: str = "a"
    size: float = 1.0
    count: int | None = None
    epochs: int | float = 1
    flag: bool = False
    names: list[str] | None = None
    weights: str | dict[str, float] = "equal"
    anything: Any = None

    def __post_init__(self) -> None:
        check_fields(self, "here: ")


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("name", Path("a/b"), str(Path("a/b"))),
        ("size", "1e-1", 0.1),  # as YAML 1.1 reads it
        ("size", 2, 2.0),
        ("size", np.float32(0.5), 0.5),
        ("count", "1e3", 1000),
        ("count", np.int64(3), 3),
        ("epochs", 3, 3),
        ("epochs", "2.5", 2.5),
        ("names", ("a", "b"), ["a", "b"]),
        ("weights", {"a": 1}, {"a": 1.0}),
        ("weights", "1e-1", "1e-1"),
        ("anything", {1, 2}, {1, 2}),
    ],
)
def test_values_that_mean_the_type_are_converted(field, given, kept):
    value = getattr(Everything(**{field: given}), field)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("name", 5, "name: expected a string, found 5. Put the value in quotes."),
        ("name", False, "name: expected a string, found false. YAML reads yes, no, on and off without quotes"),
        ("name", None, "name: expected a string, found nothing."),
        ("size", True, "size: expected a number, found true."),
        ("size", float("inf"), "size: expected a number, found inf."),
        ("size", "1e400", "size: expected a number, found '1e400'."),
        ("size", 10**400, "size: expected a number, found 1000"),
        ("count", 1.0, "count: expected a whole number or nothing, found 1.0."),
        ("count", "1.5", "count: expected a whole number or nothing, found '1.5'."),
        ("epochs", "x", "epochs: expected a number, found 'x'."),
        ("flag", "yes", "flag: expected true or false, found 'yes'."),
        ("flag", 1, "flag: expected true or false, found 1."),
        ("names", "abc", "names: expected a list of strings or nothing, found 'abc'."),
        ("names", True, "names: expected a list of strings or nothing, found true."),
        ("names", ["a", 1], "names[1]: expected a string, found 1. Put the value in quotes."),
        ("weights", {"a": []}, "weights.a: expected a number, found []."),
        ("weights", {1: 1.0}, "weights: key: expected a string, found 1."),
    ],
)
def test_other_values_are_refused(field, given, message):
    with pytest.raises(ValueError, match=r"^here: ") as error:
        Everything(**{field: given})
    assert message in str(error.value)


def test_a_long_value_is_cut():
    nested: list = []
    for _ in range(500):
        nested = [nested]
    for value in (nested, "a" * 10_000, list(range(100_000))):
        with pytest.raises(ValueError, match="x: expected a number") as error:
            checked_value(value, float, "x")
        assert len(str(error.value)) < 200


def test_the_words_for_types():
    assert describe_type(int | float | None) == "a number or nothing"
    assert describe_type(str | list[str] | dict[str, Any]) == "a string, a list of strings or a mapping"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TaskConfig(5, "token_classification"), "task 5: name: expected a string, found 5"),
        (lambda: TaskConfig("a", ["b"]), "task 'a': type: expected a string"),
        (lambda: TaskConfig("a", "token_classification", labels=True), "task 'a': labels: expected a list of strings"),
        (lambda: TaskConfig("a", "token_classification", labels="abc"), "task 'a': labels: expected a list of"),
        (lambda: TaskConfig("a", "token_classification", tag_scheme={"a": 1}), "task 'a': tag_scheme: expected a str"),
        (lambda: TaskConfig("a", "token_classification", strict_tags=1), "task 'a': strict_tags: expected true or"),
        (lambda: TaskConfig("a", "token_classification", column=0), "task 'a': column: expected a string"),
        (lambda: DataConfig("a", max_length=0), "max_length must be at least 1, found 0"),
        (lambda: DataConfig("a", num_proc=0), "num_proc must be at least 1, found 0"),
        (lambda: DataConfig("a", tasks="abc"), "tasks: expected a list of strings or nothing, found 'abc'"),
        (lambda: DataConfig("a", streaming="no"), "streaming: expected true or false, found 'no'"),
        (lambda: Sampling(strategy=["uniform"]), r"sampling: strategy: expected a string, found \['uniform'\]"),
        (lambda: FreezeStage("a", until="loss"), "stage 'a': until: expected a Until or nothing, found 'loss'"),
        (lambda: OutputOptions(tasks=-1), "tasks: expected a list of strings or nothing, found -1"),
        (lambda: OutputOptions(tasks=(1,)), r"tasks\[0\]: expected a string, found 1"),
        (lambda: OutputOptions(word_labels=["a"]), r"word_labels: expected true or false, found \['a'\]"),
        (lambda: OutputOptions(top_k=1.5), "top_k: expected a whole number or nothing, found 1.5"),
        (lambda: OutputOptions(threshold=float("nan")), "threshold: expected a number, found nan"),
        (lambda: OutputOptions(tag_scheme=["a"]), "tag_scheme: expected a string"),
    ],
)
def test_every_config_checks_its_fields(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_loss_weight_in_yaml_1_1_is_a_number():
    assert TaskConfig("a", "token_classification", loss_weight="1e-1").loss_weight == 0.1
