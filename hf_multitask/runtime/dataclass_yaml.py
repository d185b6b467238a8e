"""Conversion between dataclasses and the mappings that YAML and JSON files contain."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from ..models.field_types import checked_mapping, describe_value
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")

# Metadata key of a field whose default is the value of another field, which the metadata names.
DEFAULT_FIELD = "default_field"


def check_keys(cls: type["DataclassInstance"], values: Mapping[str, object], what: str = "key") -> None:
    """Check that all keys of a mapping are fields of a dataclass.

    Args:
        cls: The dataclass.
        values: The mapping.
        what: Description of a key in the message, such as ``"key in data"``.

    Raises:
        ValueError: If a key is unknown. The message names the closest field.
    """
    allowed = [item.name for item in dataclasses.fields(cls)]
    for key in values:
        if key not in allowed:
            raise ValueError(unknown_name_message(what, key, allowed))


def check_required(cls: type["DataclassInstance"], values: Mapping[str, object]) -> None:
    """Check that a mapping has a value for each field without a default.

    Args:
        cls: The dataclass.
        values: The mapping.

    Raises:
        ValueError: If a key is missing or its value is None.
    """
    given = [key for key, value in values.items() if value is not None]
    for item in dataclasses.fields(cls):
        if _default(item) is dataclasses.MISSING and item.name not in given:
            raise ValueError(f"the key {item.name!r} is missing, found {', '.join(given) or 'none'}.")


def build(cls: type[D], values: Mapping[str, object], prefix: str = "") -> D:
    """Build a dataclass after a check of the types of its fields.

    Args:
        cls: The dataclass.
        values: Values of the fields.
        prefix: Start of the message if a value has the wrong type.

    Returns:
        The instance.

    Raises:
        ValueError: If a value has the wrong type or is not allowed.
    """
    return cls(**checked_mapping(cls, values, prefix))


def from_mapping(cls: type[D], values: object, place: str) -> D:
    """Build a dataclass from a mapping that a file contains.

    Args:
        cls: The dataclass.
        values: The mapping.
        place: Place of the mapping in the file, for messages.

    Returns:
        The instance.

    Raises:
        ValueError: If the value is not a mapping, a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}: expected a mapping, found {describe_value(values)}.")
    try:
        check_keys(cls, values)
        check_required(cls, values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    return build(cls, values, f"{place}: ")


def as_number(value: object) -> object:
    """Convert a string such as ``2e-5``, which YAML 1.1 does not read as a number; return other values unchanged."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def changed_fields(instance: "DataclassInstance") -> JsonObject:
    """Return the fields of a dataclass that differ from their defaults, as YAML and JSON can contain them.

    Args:
        instance: The dataclass instance. Dataclasses inside it are converted too.

    Returns:
        Values by field name: tuples become lists, and paths strings.
    """
    changed = {}
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        default_field = item.metadata.get(DEFAULT_FIELD)
        if value != (_default(item) if default_field is None else getattr(instance, default_field)):
            changed[item.name] = _plain(value)
    return changed


def to_yaml(values: object) -> str:
    """Return values as YAML, with keys in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _default(item: "dataclasses.Field[object]") -> object:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return changed_fields(value)
    return str(value) if isinstance(value, Path) else value
