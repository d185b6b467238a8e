"""Conversion between dataclasses and the mappings of a file."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from hf_multitask.models import TaskConfig
from hf_multitask.runtime.dataclass_yaml import changed_fields, check_keys, check_required, from_mapping, to_yaml


@dataclass
class Wheel:
    size: int | float
    spokes: int = 8


@dataclass
class Car:
    name: str
    wheels: list[Wheel] = field(default_factory=list)
    places: tuple[Path, ...] = ()
    label: str | None = field(default=None, metadata={"default_field": "name"})


def test_a_number_that_yaml_reads_as_a_string_is_a_number():
    assert from_mapping(Wheel, yaml.safe_load("size: 2e-5"), "wheel") == Wheel(2e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "wheel 1: expected a mapping, found 3"),
        ({"size": 1, "spoke": 2}, "wheel 1: unknown key 'spoke'. Did you mean 'spokes'. Allowed: 'size', 'spokes'"),
        ({"spokes": 2}, "wheel 1: the key 'size' is missing, found spokes"),
        ({"size": None}, "wheel 1: the key 'size' is missing, found none"),
        ({"size": 1, "spokes": "many"}, "wheel 1: spokes: expected a whole number, found 'many'"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_place(values, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(Wheel, values, "wheel 1")


def test_keys_and_required_fields_of_a_plain_dataclass():
    check_keys(Car, {"label": "a"})
    with pytest.raises(ValueError, match=r"unknown key in car 'lable'\. Did you mean 'label'\?"):
        check_keys(Car, {"lable": "a"}, "key in car")
    with pytest.raises(ValueError, match="the key 'name' is missing, found label"):
        check_required(Car, {"label": "a"})


def test_only_changed_fields_are_written_as_plain_values():
    car = Car("a", [Wheel(1), Wheel(2, spokes=4)], (Path("b"),), label="a")
    assert changed_fields(car) == {"name": "a", "wheels": [{"size": 1}, {"size": 2, "spokes": 4}], "places": ["b"]}
    assert yaml.safe_load(to_yaml(changed_fields(car))) == changed_fields(car)


def test_a_default_that_is_another_field_is_not_written():
    assert changed_fields(Car("a", label="b")) == {"name": "a", "label": "b"}
    task = TaskConfig("topic", "sequence_classification")
    assert changed_fields(task) == {"name": "topic", "type": "sequence_classification"}
