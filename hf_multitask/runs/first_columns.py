"""What the columns of a data file are, for a first config: of rows, and of CoNLL files with a word per line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..data.guessing import LABEL_ROLES, FileForm, FileGuess, guess_columns, guess_file
from ..data.guessing.columns import IGNORED, INPUT_ROLES, LABEL, TEXT, TEXT_PAIR, TOKENS
from ..data.labels.outside_tag import find_outside
from ..data.readers.annotation_tools import ANNOTATION_TOOLS
from ..data.readers.cells import is_list_cell, parse_list
from ..data.readers.conll import CONLLU, count_columns
from ..data.readers.file_formats import open_file
from ..data.readers.reading_options import ReadingOptions
from ..data.readers.text_lines import TextLines
from ..models.messages import unknown_name_message
from ..models.tags_iob2 import OUTSIDE
from ..models.tasks import TOKEN_CLASSIFICATION
from ..models.type_aliases import JsonObject

CONLL = "conll"
# Extensions of text files that may be CoNLL files.
_PLAIN_EXTENSIONS = (".txt", ".tags", "")
_LINES_CHECKED, _ROWS_CHECKED = 200, 2000
# Usual name of the task whose tags are those of entities.
_ENTITIES = "ner"
# A text is told from another column of texts if it is this much longer.
_CLEARLY_LONGER = 2.0
_LABELS_SHOWN, _LABEL_LENGTH = 4, 30
# Columns by which the rows of a tool are known.
_TOOL_KEYS = {"label_studio": {"data", "annotations"}, "prodigy": {"_input_hash"}}
_INPUTS = {TEXT: "the text", TOKENS: "the words of the text", TEXT_PAIR: "the second text of a pair"}
_PREFIXES = ("B-", "I-", "L-", "U-", "E-", "S-")


@dataclass
class SeenFile:
    """What was seen in a file.

    Args:
        path: The file.
        rows: Number of rows that were looked at.
        is_whole: Whether these are all.
        options: Fields of a `DataConfig` that the file needs, such as ``columns``.
        tasks: The tasks, as in a config.
        labels: Classes or tags of each task.
        notes: What each column is, as a phrase.
    """

    path: Path
    rows: int
    is_whole: bool
    options: JsonObject
    tasks: list[JsonObject]
    labels: dict[str, frozenset[str]]
    notes: dict[str, str] = field(default_factory=dict)

    def rename(self, task: JsonObject, name: str) -> None:
        """Give a task another name. Its column stays the same."""
        task.update({"name": name, "column": task.get("column", task["name"])})


def look_at_rows(path: Path, format: str | None, columns: Mapping[str, str | int]) -> SeenFile:
    """Guess what the columns of a file with a row per row are.

    Args:
        path: The file.
        format: Its format. Defaults to the format of its extension.
        columns: Columns that are known, by the library's name or the name of a task.

    Raises:
        ValueError: If no column or more than one is the text, or none contains labels. The message names the columns
            and the option that decides.
    """
    given = {ours: str(theirs) for ours, theirs in columns.items()}
    roles = {theirs: ours for ours, theirs in given.items() if ours in INPUT_ROLES}
    labeled = {theirs: ours for ours, theirs in given.items() if ours not in INPUT_ROLES}
    guess = _guess(path, roles, format)
    _check_given(path, guess, given)
    if labeled:
        roles |= _label_roles(guess, labeled)
        guess = _guess(path, roles, format)
    _check_text(path, guess, is_given=bool(roles))
    tasks = [_named(task, labeled) for task in guess.tasks]
    if not tasks:
        raise ValueError(
            f"{path}: no column looks like labels; {_listed(guess)}. Name one: --columns "
            f"label={guess.columns[-1].name}, or give the format with --format."
        )
    values = {task["name"]: _values(guess, _column_of(task)) for task in tasks}
    num_rows, is_whole = _count_rows(path, guess)
    labels = {name: frozenset(counts) for name, counts in values.items()}
    return SeenFile(path, num_rows, is_whole, guess.data, tasks, labels, _notes(guess, tasks, values, roles))


def looks_like_conll(path: Path) -> bool:
    """Return whether a text file has a word and its tags per line, as its first lines show."""
    if path.suffix.lower() not in _PLAIN_EXTENSIONS:
        return False
    lines = TextLines(path, None)
    try:
        texts = [lines.decode(number, raw).strip() for number, raw in islice(lines, _LINES_CHECKED)]
    except ValueError:
        return False
    words = [text.split() for text in texts if text and not text.startswith(("-DOCSTART-", "#"))]
    return (
        len({len(cells) for cells in words}) == 1
        and len(words[0]) > 1
        and _are_tags(Counter(row[-1] for row in words))
    )


def look_at_conll(path: Path, format: str, columns: Mapping[str, str | int]) -> SeenFile:
    """Guess which columns of a CoNLL file are words and tags.

    Args:
        path: The file.
        format: ``"conll"`` or ``"conllu"``.
        columns: Columns that are known, by number.

    Raises:
        ValueError: If no column has tags of entities. The message shows the columns.
    """
    num_columns, is_conllu = count_columns(path, format == CONLLU)
    words = columns.get(TOKENS, 1 if is_conllu else 0)
    named = {str(number): ours for ours, number in columns.items() if ours != TOKENS}
    for number in (words, *named):
        if not str(number).isdecimal() or int(number) >= num_columns:
            raise ValueError(f"{path}: --columns: expected numbers from 0 to {num_columns - 1}, found {number!r}.")
    numbers = [i for i in range(num_columns) if i != int(words)]
    located = open_file(path, format, {TOKENS: int(words), **{str(i): i for i in numbers}})
    rows = [item.row for item in islice(located, _ROWS_CHECKED + 1)]
    counts = {str(i): Counter(tag for row in rows[:_ROWS_CHECKED] for tag in row[str(i)]) for i in numbers}
    tagged = [name for name in counts if _are_tags(counts[name])]
    chosen = list(named) or tagged[-1:]
    if not chosen:
        seen = "; ".join(f"column {name}: {_shown(counts[name])}" for name in counts) or "there is one column"
        raise ValueError(
            f"{path}: no column has tags of entities such as B-PER and O ({seen}). Name them by number: --columns "
            f"{TOKENS}={words},{_ENTITIES}={num_columns - 1}"
        )
    notes = {f"column {i}": "the words" for i in range(num_columns)}
    for name in counts:
        extra = " (also tags: to train it, add it to columns and tasks)" if name in tagged else ""
        what = f"task {named.get(name, _ENTITIES)}: " if name in chosen else f"left out{extra}: "
        notes[f"column {name}"] = what + _shown(counts[name])
    names = {named.get(name, _ENTITIES): int(name) for name in chosen}
    tasks: list[JsonObject] = [{"name": name, "type": TOKEN_CLASSIFICATION} for name in names]
    labels = {name: frozenset(counts[str(number)]) for name, number in names.items()}
    options: JsonObject = {"columns": {TOKENS: int(words), **names}}
    num_rows = min(len(rows), _ROWS_CHECKED)
    return SeenFile(path, num_rows, len(rows) <= _ROWS_CHECKED, options, tasks, labels, notes)


def _check_given(path: Path, guess: FileGuess, given: Mapping[str, str]) -> None:
    names = [column.name for column in guess.columns]
    for ours, theirs in given.items():
        if theirs not in names:
            raise ValueError(f"{path}: --columns {ours}={theirs}: {unknown_name_message('column', theirs, names)}")


def _label_roles(guess: FileGuess, labeled: Mapping[str, str]) -> dict[str, str]:
    """Return the roles of columns if some are named: these are labels, and no other is."""
    roles = {column.name: column.role for column in guess.columns}
    named = {name: LABEL if roles[name] not in LABEL_ROLES else roles[name] for name in labeled}
    return named | {name: IGNORED for name, role in roles.items() if role in LABEL_ROLES and name not in labeled}


def _named(task: JsonObject, labeled: Mapping[str, str]) -> JsonObject:
    """Return a task under the name that is given for its column."""
    column = _column_of(task)
    named = {**task, "name": labeled.get(column, task["name"]), "column": column}
    if named["name"] == column:
        del named["column"]
    return named


def _column_of(task: JsonObject) -> str:
    return str(task.get("column", task["name"]))


def _notes(
    guess: FileGuess, tasks: Sequence[JsonObject], values: Mapping[str, Counter[str]], roles: Mapping[str, str]
) -> dict[str, str]:
    """Return what each column is, as a phrase; without a reason where the role is given."""
    names = {_column_of(task): task["name"] for task in tasks}
    notes = {}
    for column in guess.columns:
        if column.name in names:
            name = names[column.name]
            amounts = "; for amounts, add problem_type: regression" if _are_numbers(values[name]) else ""
            notes[column.name] = f"task {name}: {_shown(values[name]) or column.reason}{amounts}"
        elif column.role in INPUT_ROLES:
            why = "" if column.name in column.reason or column.name in roles else f": {column.reason}"
            notes[column.name] = _INPUTS[column.role] + why
        else:
            notes[column.name] = "left out" if column.name in roles else f"left out: {column.reason}"
    return notes


def _are_numbers(names: Mapping[str, int]) -> bool:
    return len(names) > 2 and all(name.removeprefix("-").isdecimal() for name in names)


def _check_text(path: Path, guess: FileGuess, is_given: bool) -> None:
    """Raise if no column is the text, or another one could be it as well."""
    text = next((column for column in guess.columns if column.role in (TEXT, TOKENS)), None)
    if text is None:
        first = guess.columns[0].name
        raise ValueError(
            f"{path}: no column looks like texts of several words; {_listed(guess)}. Name it: --columns "
            f"{TEXT}={first}.{_tool_hint(guess)}"
        )
    if is_given or "longest" not in text.reason:
        return
    words = _mean_words(guess, text.name)
    for other in guess.columns:
        length = _mean_words(guess, other.name)
        if other.role == IGNORED and length >= 2 and words < _CLEARLY_LONGER * length:
            raise ValueError(
                f"{path}: columns {text.name!r} and {other.name!r} both look like texts. Name the one to read: "
                f"--columns {TEXT}={text.name}; for a pair of texts, add text_pair={other.name} to it after a comma."
            )


def _mean_words(guess: FileGuess, column: str) -> float:
    texts = [str(row[column]) for row in guess.rows if isinstance(row.get(column), str)]
    return sum(len(text.split()) for text in texts) / max(len(texts), 1)


def _values(guess: FileGuess, column: str) -> Counter[str]:
    """Return the classes or tags in a column, with their counts; none of numbers and spans."""
    found = next(item for item in guess.columns if item.name == column)
    if found.role not in LABEL_ROLES or found.role in ("number", "spans"):
        return Counter()
    values = [_parsed(row[column]) for row in guess.rows if row.get(column) not in (None, "")]
    if found.separator is not None:
        return Counter(part.strip() for value in values for part in str(value).split(found.separator))
    if any(isinstance(value, list) for value in values):
        return Counter(str(item) for value in values for item in (value if isinstance(value, list) else [value]))
    return Counter(str(value).strip() for value in values)


def _parsed(value: object) -> object:
    """Return the list that a cell of a table contains, or the value."""
    return parse_list(value) if isinstance(value, str) and is_list_cell(value) else value


def _guess(path: Path, roles: Mapping[str, str], format: str | None) -> FileGuess:
    if format not in ANNOTATION_TOOLS:
        return guess_file(path, roles=roles, format=format)
    rows = [located.row for located in islice(open_file(path, format), _ROWS_CHECKED)]
    if not rows:
        raise ValueError(f"{path}: expected at least one row, found none.")
    return FileGuess(FileForm(format, ReadingOptions()), guess_columns(rows, roles), rows)


def _tool_hint(guess: FileGuess) -> str:
    """Return which annotation tool writes such rows, if one does."""
    names = {column.name for column in guess.columns}
    tool = next((tool for tool, keys in _TOOL_KEYS.items() if keys <= names), None)
    return "" if tool is None else f" If {tool} has written the file, give --format {tool}."


def _count_rows(path: Path, guess: FileGuess) -> tuple[int, bool]:
    """Return the number of rows, and whether these are all; at most as many as are counted quickly."""
    count = 0
    try:
        for _ in islice(open_file(path, guess.form.format, None, guess.form.options), _ROWS_CHECKED + 1):
            count += 1
    except ValueError:  # a broken row further down, which training names
        return count, False
    return min(count, _ROWS_CHECKED), count <= _ROWS_CHECKED


def _are_tags(counts: Mapping[str, int]) -> bool:
    outside = find_outside(counts) or OUTSIDE
    types = [tag for tag in counts if tag != outside]
    return bool(types) and outside in counts and all(tag.startswith(_PREFIXES) for tag in types)


def _listed(guess: FileGuess) -> str:
    return "found " + ", ".join(f"{column.name!r} ({column.reason})" for column in guess.columns)


def _shown(counts: Mapping[str, int]) -> str:
    """Return the number of labels and the most frequent ones; empty if there are none."""
    if not counts:
        return ""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    number = "one label" if len(counts) == 1 else f"{len(counts)} labels"
    names = [f"{name[:_LABEL_LENGTH]} ({count})" for name, count in ranked[:_LABELS_SHOWN]]
    return f"{number}: {', '.join(names)}" + (", …" if len(ranked) > _LABELS_SHOWN else "")
