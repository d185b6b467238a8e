"""Types of the fields of configs: one check for every dataclass that users fill in, in Python or from a file."""

import math
import numbers
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Union

MAX_CHARACTERS_SHOWN = 80

_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}
_PLURALS = {str: "strings", int: "whole numbers", float: "numbers", bool: "booleans"}

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = MAX_CHARACTERS_SHOWN
_shown.maxlevel = 3


def check_fields(instance: Any, place: str = "") -> None:
    """Check the value of each field of a dataclass against its annotation.

    Numbers in strings become numbers where a field is a number: YAML 1.1 reads ``1e-1`` as a string. Whole numbers
    become floats where a field is one, paths strings, and tuples lists. A field of type ``Any`` is not checked.

    Args:
        instance: The instance, whose ``__post_init__`` calls this first.
        place: Start of the message, such as ``"task 'intent': "``.

    Raises:
        ValueError: If a value has another type. The message names the field, and what was expected and found.
    """
    hints = _hints(instance.__class__)
    for item in fields(instance):
        value = getattr(instance, item.name)
        checked = checked_value(value, hints[item.name], f"{place}{item.name}")
        if checked is not value:
            object.__setattr__(instance, item.name, checked)  # the instance may be frozen


def checked_value(value: object, hint: Any, place: str) -> Any:
    """Return a value in the type of a field.

    Args:
        value: The value.
        hint: Type of the field: an annotation of built-in types, dataclasses and collections of them.
        place: Name of the field, for messages.

    Raises:
        ValueError: See `check_fields`.
    """
    options = _options(hint)
    if isinstance(value, Path) and str in options and Path not in options:
        return str(value)
    for option in options:
        if option in (str, bool, type(None), int) and type(value) is option:
            return value
    for option in options:
        if _is_container(option, value):
            return _checked_items(value, option, place)
        found, converted = _convert(value, option)
        if found:
            return converted
    raise ValueError(f"{place}: expected {describe_type(hint)}, found {describe_value(value)}.{_hint(value, options)}")


def describe_type(hint: Any) -> str:
    """Return the words for a type in a message, such as ``"a number or nothing"``."""
    options = [option for option in _options(hint) if option is not int or float not in _options(hint)]
    names = list(dict.fromkeys(_describe_option(option) for option in options))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def describe_value(value: object) -> str:
    """Return the words for a value in a message, cut to a readable length."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        value = str(value)
    return _shown.repr(value)


def checked_mapping(cls: type, values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the values of fields of a dataclass as `check_fields` makes them; keys that are no fields stay.

    Args:
        cls: The dataclass.
        values: Values by field name.
        place: Start of the message, such as ``"data."``.

    Raises:
        ValueError: See `check_fields`.
    """
    hints = _hints(cls)
    return {key: checked_value(value, hints.get(key, Any), f"{place}{key}") for key, value in values.items()}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _origin(option: Any) -> Any:
    return typing.get_origin(option) or option


def _is_container(option: Any, value: object) -> bool:
    """Return whether a type is a collection whose kind the value has."""
    origin = _origin(option)
    if origin in (list, Sequence):
        return isinstance(value, (list, tuple))
    return origin in (dict, Mapping) and isinstance(value, Mapping)


def _checked_items(value: Any, option: Any, place: str) -> Any:
    """Return a collection with checked items; the same object if none has changed."""
    arguments = typing.get_args(option)
    if isinstance(value, Mapping):
        key_type, item_type = arguments or (Any, Any)
        items = {
            checked_value(key, key_type, f"{place}: key"): checked_value(item, item_type, f"{place}.{key!s:.40}")
            for key, item in value.items()
        }
        return value if all(items[key] is item for key, item in value.items()) else items
    item_type = arguments[0] if arguments else Any
    checked = [checked_value(item, item_type, f"{place}[{i}]") for i, item in enumerate(value)]
    is_same = all(new is old for new, old in zip(checked, value, strict=True))
    return value if is_same and (isinstance(value, list) or _origin(option) is not list) else checked


def _convert(value: object, option: Any) -> tuple[bool, Any]:
    """Return whether a value has a type that is not a collection, and the value in it."""
    if option in (Any, object):
        return True, value
    if option in (int, float):
        return _convert_number(value, option)
    if option in (None, type(None)):
        return value is None, value
    if _origin(option) in (list, dict, Sequence, Mapping):
        return False, value  # collections are converted item by item; a string is none of them
    return isinstance(_origin(option), type) and isinstance(value, _origin(option)), value


def _convert_number(value: object, option: type) -> tuple[bool, Any]:
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):
        return False, value
    if option is int and isinstance(value, numbers.Integral):
        return True, int(value)
    if option is int and not isinstance(value, str):
        return False, value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return False, value
    if not math.isfinite(number):
        return False, value
    if option is float:
        return True, value if type(value) is float else number
    return number.is_integer(), int(number)


def _describe_option(option: Any) -> str:
    origin, arguments = _origin(option), typing.get_args(option)
    if origin in (list, Sequence):
        return f"a list of {_plural(arguments[0])}" if arguments else "a list"
    if origin in (dict, Mapping):
        of_items = "" if not arguments or arguments[1] is Any else f" to {_plural(arguments[1])}"
        return f"a mapping{of_items}"
    return _NAMES.get(option, f"a {getattr(option, '__name__', option)}")


def _plural(hint: Any) -> str:
    return " or ".join(_PLURALS.get(option, getattr(option, "__name__", "values")) for option in _options(hint))


def _hint(value: object, options: Sequence[Any]) -> str:
    """Return advice for a value that YAML has read as something else than the user meant."""
    if str not in options:
        return ""
    if isinstance(value, bool):
        return " YAML reads yes, no, on and off without quotes as true and false: put the value in quotes."
    if isinstance(value, (int, float)):
        return " Put the value in quotes."
    return ""
