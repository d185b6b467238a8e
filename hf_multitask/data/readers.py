"""Reading rows, each with the place it came from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from ..models.names import unknown_name

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of one split.

    Args:
        source: The file or data set that they came from.
        rows: The rows, each a mapping of column names to values.
        line_numbers: The line of each row, where they came from a file.
    """

    source: str
    rows: list[Row]
    line_numbers: list[int] = field(default_factory=list)

    def place(self, i: int) -> str:
        """Return where row ``i`` stands, as an error message names it."""
        return f"{self.source}:{self.line_numbers[i]}" if self.line_numbers else f"{self.source}, row {i}"

    @property
    def columns(self) -> list[str]:
        """The columns that occur, in the order of their first row."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def read_rows(source: str | Path | datasets.Dataset | Sequence[Row], name: str = "rows") -> Rows:
    """Read the rows of one split.

    Args:
        source: A JSONL file, a ``datasets.Dataset`` or a list of rows.
        name: What messages call a source that is not a file, such as the name of its split.

    Returns:
        The rows.

    Raises:
        ValueError: If there are no rows, or a line is no JSON object. The message names file and line.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(source, (str, Path)):
        rows = _read_jsonl(Path(source))
    elif isinstance(source, datasets.Dataset):
        rows = Rows(name, _with_label_names(source).to_list())
    else:
        rows = Rows(name, list(source))
    if not rows.rows:
        raise ValueError(f"{rows.source}: expected at least one row, found none.")
    return rows


def load_hub_split(name: str, split: str, config: str | None = None, revision: str | None = None) -> datasets.Dataset:
    """Load one split of a data set from the hub, or of a local folder that ``datasets`` can read.

    Args:
        name: Hub name or folder.
        split: Name of the split.
        config: Name of the data set's configuration.
        revision: Revision on the hub.

    Returns:
        The split.

    Raises:
        ValueError: If there is no such data set or split. The message names what there is.
    """
    try:
        splits = datasets.get_dataset_split_names(name, config, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"data set {name!r} could not be read: {error}") from error
    if split not in splits:
        raise ValueError(f"data set {name!r}: {unknown_name('split', split, splits)}")
    return datasets.load_dataset(name, config, split=split, revision=revision)


def _read_jsonl(path: Path) -> Rows:
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{path}: there is no such file; {unknown_name('file', path.name, siblings)}")
    rows = Rows(str(path), [])
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}:{number}: expected a JSON object, found {_shorten(line)} ({error.msg})."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: expected a JSON object, found {_shorten(line)}.")
        rows.rows.append(row)
        rows.line_numbers.append(number)
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file with their numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}:{number}: expected UTF-8, found the byte 0x{line[error.start]:02x} at position "
                    f"{error.start} of the line."
                ) from error


def _shorten(line: str, length: int = 60) -> str:
    line = line.strip()
    return repr(line if len(line) <= length else line[:length] + "…")


def _with_label_names(dataset: datasets.Dataset) -> datasets.Dataset:
    """Replace the ids of `ClassLabel` columns by their names."""
    named: dict[str, Any] = {}
    for column, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            named[column] = inner
    if not named:
        return dataset

    def names(row: Row) -> Row:
        return {column: _label_names(label, row[column]) for column, label in named.items()}

    features = dataset.features.copy()
    for column in named:
        text = datasets.Value("string")
        features[column] = text if isinstance(features[column], datasets.ClassLabel) else datasets.List(text)
    return dataset.map(names, features=features)


def _label_names(label: datasets.ClassLabel, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_label_names(label, item) for item in value]
    return None if value < 0 else label.int2str(value)
