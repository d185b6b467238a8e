"""Parsers for values on the command line, such as overrides of a config: ``--training.num_train_epochs 1``."""

from collections.abc import Sequence

from ..models.messages import did_you_mean
from ..models.type_aliases import JsonObject
from ..runtime.plain_values import load_yaml


def parse_overrides(arguments: Sequence[str], flags: Sequence[str] = ()) -> JsonObject:
    """Parse options with dotted names.

    Args:
        arguments: ``--name value`` or ``--name=value``; values are YAML.
        flags: Options that the command has itself, of which one may be misspelt.

    Returns:
        The values by dotted name.

    Raises:
        ValueError: If an argument is not an option, an option has no value, or a value is not YAML.
    """
    overrides: JsonObject = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ValueError(
                f"unexpected argument {option!r}; expected an option such as --training.num_train_epochs 1."
            )
        name, equals, value = option.removeprefix("--").partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"option --{name} has no value.{did_you_mean(option, flags)}")
            value = rest.pop(0)
        try:
            overrides[name.replace("-", "_")] = load_yaml(value)
        except ValueError as error:
            raise ValueError(f"option --{name}: {error}") from error
    return overrides


def parse_columns(given: str | None) -> dict[str, str | int]:
    """Parse names of columns, such as ``tokens=0,ner=3``.

    Args:
        given: Pairs of a column name and its name or number in the file, if given.

    Returns:
        The name or number in the file by column name.

    Raises:
        ValueError: If a part has no ``=``.
    """
    columns: dict[str, str | int] = {}
    for part in given.split(",") if given else []:
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise ValueError(f"--columns: expected parts such as tokens=0 or text=utterance, found {part!r}.")
        columns[name.strip()] = int(column) if column.strip().isdecimal() else column.strip()
    return columns


def reading_values(
    format: str | None,
    columns: str | None,
    delimiter: str | None,
    encoding: str | None,
    quoting: str | None,
    header: bool | None,
    sheet: str | None,
) -> JsonObject:
    """Return the options that say how a data file is read as fields of `DataConfig`.

    Raises:
        ValueError: If ``columns`` is not valid, see `parse_columns`.
    """
    form = {"delimiter": delimiter, "encoding": encoding, "quoting": quoting, "header": header, "sheet": sheet}
    return {"format": format, "columns": parse_columns(columns), **form}


def parse_names(given: str | None) -> tuple[str, ...] | None:
    """Split names at commas. Return None if none are given."""
    return None if given is None else tuple(name.strip() for name in given.split(","))
