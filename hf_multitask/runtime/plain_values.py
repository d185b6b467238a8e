"""YAML and JSON of config files as plain values: strings, finite numbers, booleans, lists and mappings."""

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from ..models.field_types import describe_value
from ..models.type_aliases import JsonObject

MAX_DEPTH = 50
# Values that the aliases of a file may stand for, each counted as often as it is repeated.
MAX_ALIASED_VALUES = 100_000
MAX_BITS = 64
_TOO_DEEP = f"expected at most {MAX_DEPTH} nested levels, found more."


class _ShallowLoader(yaml.SafeLoader):
    """Loader that stops at deep nesting while it scans: PyYAML takes seconds for a thousand brackets."""

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803
        if self.flow_level >= MAX_DEPTH:
            raise ValueError(f"line {self.line + 1}: {_TOO_DEEP}")
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) >= MAX_DEPTH:
            raise ValueError(f"line {self.line + 1}: {_TOO_DEEP}")
        return super().add_indent(column)


def load_yaml(text: str) -> object:
    """Read YAML that contains only values that JSON has too.

    Args:
        text: The YAML.

    Returns:
        The value.

    Raises:
        ValueError: If it is not YAML, has a key twice, a value is a date, bytes, a set or not finite, it is
            nested more than 50 levels deep, or its aliases stand for themselves or for more than 100,000 values.
    """
    loader = None
    try:
        loader = _ShallowLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        value = _construct(loader, node)
    except yaml.YAMLError as error:
        raise ValueError(f"expected YAML. {' '.join(str(error).split())}") from error
    finally:
        if loader is not None:
            loader.dispose()
    check_plain(value)
    return value


def _construct(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    try:
        return loader.construct_document(node)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        # What PyYAML does with a date such as 2020-13-01, or a value that does not fit its tag: !!timestamp x.
        raise ValueError(
            f"found a value that cannot be read as what it looks like; put it in quotes. {error}"
        ) from error


def read_yaml_mapping(path: Path, name: str) -> JsonObject:
    """Read a file with a mapping in YAML.

    Args:
        path: The file.
        name: Name of such a file in messages, such as ``"config file"``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a mapping, or see `load_yaml`. The message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such {name}.")
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8. {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys, found {type(values).__name__}.")
    return values


def load_json(text: str) -> object:
    """Read JSON, with the limits of `load_yaml`.

    Raises:
        ValueError: If it is not JSON, contains NaN or an infinity, or is nested more than 50 levels deep.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    check_plain(value)
    return value


def check_plain(value: object, place: str = "", depth: int = 0) -> None:
    """Raise if a value contains anything that JSON does not have.

    Args:
        value: The value.
        place: Keys that lead to it, for messages.
        depth: Number of collections that contain it.

    Raises:
        ValueError: See `load_yaml`.
    """
    where = f"{place}: " if place else ""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}{_TOO_DEEP}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"{where}expected strings as keys, found {_describe(key)}; put the key in quotes to make it one."
                )
            check_plain(item, f"{place}.{key:.40}" if place else f"{key:.40}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_plain(item, f"{place}[{i}]", depth + 1)
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        return
    elif isinstance(value, int):
        if value.bit_length() >= MAX_BITS:
            raise ValueError(f"{where}expected a number below 2^63, found one of {value.bit_length()} bits.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}expected a finite number, found {value}.")
    else:
        raise ValueError(
            f"{where}expected a string, a number, true, false, a list or a mapping, found {_describe(value)}; put it "
            "in quotes to make it a string."
        )


def _describe(value: object) -> str:
    if isinstance(value, datetime.date):
        return f"the date {value}"
    return f"bytes {describe_value(value)}" if isinstance(value, bytes) else describe_value(value)


def _check_nodes(root: yaml.Node) -> None:
    """Raise if a graph of nodes is too deep, too large without its aliases, or has a key twice."""
    sizes: dict[int, int] = {}  # of the nodes that are complete; 0 for those that contain the present one

    def size_of(node: yaml.Node, depth: int) -> int:
        if id(node) in sizes:
            if sizes[id(node)] == 0:
                raise ValueError("an alias inside a value stands for the value itself.")
            return sizes[id(node)]
        if depth > MAX_DEPTH:
            raise ValueError(f"{_line(node)}{_TOO_DEEP}")
        sizes[id(node)] = 0
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
        sizes[id(node)] = 1 + sum(size_of(part, depth + 1) for part in inner)
        return sizes[id(node)]

    total = size_of(root, 0)
    if total - len(sizes) > MAX_ALIASED_VALUES:
        raise ValueError(f"expected aliases for at most {MAX_ALIASED_VALUES:,} values, found aliases for more.")


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                raise ValueError(f"{_line(key)}the key {describe_value(key.value)} is there twice.")
            seen.add(key.value)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}: "
