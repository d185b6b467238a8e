"""A first config for data files: the keys that matter, with what was seen in the files as comments."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..data import SPLITS
from ..data.readers.conll import CONLLU
from ..data.readers.file_formats import find_format
from ..models.encoder_local import local_encoders
from ..models.encoder_packages import PACKAGED_ENCODERS
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_text
from .config import RunConfig
from .first_columns import CONLL, SeenFile, look_at_conll, look_at_rows, looks_like_conll

DEFAULT_ENCODER = next(iter(PACKAGED_ENCODERS))
# Up to this many rows, a fifth of them validates: a tenth would be too few to choose an epoch by.
FEW_ROWS = 500
TRAIN, VALIDATION, TEST = SPLITS
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval"), TEST),
}
_SPLIT_WORD = re.compile(rf"(?:^|(?<=[._-]))({'|'.join(_SPLIT_WORDS)})(?:$|(?=[._-]))", flags=re.IGNORECASE)
_NAMES_SHOWN = 5


@dataclass
class _Dataset:
    """Files of one dataset.

    Args:
        files: File by split.
        seen: What its training rows contain.
    """

    files: dict[str, Path]
    seen: SeenFile


def validation_share(rows: int) -> float:
    """Return the share of the training rows that should validate, if no others do."""
    return 0.2 if rows < FEW_ROWS else 0.1


def write_first_config(
    files: Sequence[str | Path],
    output: str | Path,
    encoder: str | None = None,
    format: str | None = None,
    columns: Mapping[str, str | int] | None = None,
    overwrite: bool = False,
) -> RunConfig:
    """Write a config for data files: encoder, tasks, data and output directory, with what was seen as comments.

    Files whose names differ in a word such as train, validation or test are the splits of one dataset. Each other file
    is a dataset of its own, and one model learns the tasks of all.

    Args:
        files: The files.
        output: File to write. Paths in it are relative to its folder.
        encoder: Hub name or folder of the encoder. Defaults to one that is on this machine.
        format: Format of the files. Defaults to the format of their extensions.
        columns: Columns that are known, by the library's name (``text``, ``tokens``) or by the name of a task.
        overwrite: Whether to replace a file.

    Returns:
        The config.

    Raises:
        FileExistsError: If the file exists.
        FileNotFoundError: If a data file does not exist.
        ValueError: If a file cannot be read, or it is unclear what its columns are. The message names the option that
            decides.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists. Give another file with --output, or replace it with --overwrite.")
    datasets = _find_datasets([Path(file) for file in files], format, columns or {})
    _name_apart([dataset.seen for dataset in datasets])
    text = _config_text(datasets, output, encoder)
    config = RunConfig.from_dict(yaml.safe_load(text))  # a config that would be refused is not written
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    return config


def _find_datasets(files: Sequence[Path], format: str | None, columns: Mapping[str, str | int]) -> list[_Dataset]:
    """Group files into datasets with their splits, and look at the training rows of each."""
    groups: dict[tuple[Path, str, str], dict[str, Path]] = {}
    for path in files:
        stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
        word = _SPLIT_WORD.search(stem) if len(files) > 1 else None
        split = _SPLIT_WORDS[word[1].lower()] if word else TRAIN
        group = groups.setdefault((path.parent, _SPLIT_WORD.sub("", stem) if word else stem, path.suffix), {})
        if split in group:
            raise ValueError(f"{group[split]} and {path} both seem to be {split} rows; give one file for each split.")
        group[split] = path
    if len(groups) > 1 and (columns or format):
        raise ValueError(
            "--columns and --format are for one dataset, found several. Write a config for each, and join their "
            "`tasks` and `data`."
        )
    for group in groups.values():
        if TRAIN not in group and len(group) > 1:
            raise ValueError(f"{next(iter(group.values()))}: a file with training rows is missing next to it.")
    alone = ({TRAIN: next(iter(group.values()))} if TRAIN not in group else group for group in groups.values())
    return [_Dataset(group, _look_at(group[TRAIN], format, columns)) for group in alone]


def _look_at(path: Path, format: str | None, columns: Mapping[str, str | int]) -> SeenFile:
    guessed = format is None and path.is_file() and looks_like_conll(path)
    found = CONLL if guessed else format
    if not path.is_dir():
        found = find_format(path, found)
    seen = look_at_conll(path, found, columns) if found in (CONLL, CONLLU) else look_at_rows(path, format, columns)
    if guessed or format is not None:
        seen.options = {"format": found, **seen.options}
    return seen


def _name_apart(files: Sequence[SeenFile]) -> None:
    """Give tasks of different files different names if their labels are not the same."""
    taken: dict[str, tuple[JsonObject, frozenset[str]]] = {}
    for seen in files:
        for task in seen.tasks:
            labels = seen.labels[task["name"]]
            other, others = taken.get(task["name"], (task, labels))
            kind = {key: value for key, value in task.items() if key != "column"}
            is_same = {key: value for key, value in other.items() if key != "column"} == kind
            if not is_same or 2 * len(labels & others) < min(len(labels), len(others)):
                stem = re.sub(r"\W+", "_", seen.path.name.split(".")[0], flags=re.ASCII)
                seen.rename(task, f"{task['name']}_{stem}")
            taken[task["name"]] = (task, labels)


def _config_text(datasets: Sequence[_Dataset], output: Path, encoder: str | None) -> str:
    sources = ", ".join(_relative(path, output) for dataset in datasets for path in dataset.files.values())
    name, where = _choose_encoder() if encoder is None else (_encoder_path(encoder, output), "as given")
    tasks = {task["name"]: task for dataset in datasets for task in dataset.seen.tasks}
    stem = re.sub(r"\W+", "-", "-".join(dataset.seen.path.name.split(".")[0] for dataset in datasets)).strip("-")
    lines = [
        f"# Written by hf-multitask init from {_one_line(sources)}. To train:",
        f"#   hf-multitask train {_one_line(str(output))}",
        "#",
        *(line for dataset in datasets for line in _comments(dataset.seen, output)),
        f"encoder: {_flow(name)}  # {where}",
        "tasks:",
        *(f"  - {_flow(task)}" for task in tasks.values()),
        *_data_lines(datasets, output),
        f"output_dir: {_flow(f'out/{stem}')}  # relative to the folder in which you call train",
        "# Everything else is chosen from the data and printed with its reason: epochs, rates, batch size. To set one",
        "# yourself, add it: training: {num_train_epochs: 3}. To freeze layers in stages, add: freeze: three-stage",
    ]
    return "\n".join(lines) + "\n"


def _comments(seen: SeenFile, output: Path) -> Iterator[str]:
    rows = f"{seen.rows:,} rows" if seen.is_whole else f"the first {seen.rows:,} rows"
    width = max(len(_one_line(name)) for name in seen.notes)
    yield f"# {_one_line(_relative(seen.path, output))}, {rows}:"
    for name, note in seen.notes.items():
        yield f"#   {_one_line(name):<{width}}  {_one_line(note)}"
    yield "#"


def _data_lines(datasets: Sequence[_Dataset], output: Path) -> list[str]:
    lines, shares = [], Counter[float]()
    for dataset in datasets:
        values: JsonObject = {
            split: _relative(path, output) for split, path in sorted(dataset.files.items(), key=_order)
        }
        if VALIDATION not in values:
            values["validation_split"] = validation_share(dataset.seen.rows)
            shares[values["validation_split"]] += 1
        values |= dataset.seen.options
        if len(datasets) > 1:
            values["tasks"] = [task["name"] for task in dataset.seen.tasks]
        lines.append(_flow(values))
    comments = [f"# {share:.0%} of the training rows validate: the best epoch is chosen on them." for share in shares]
    if len(lines) == 1:
        return [*comments, f"data: {lines[0]}"]
    return [*comments, "data:", *(f"  - {line}" for line in lines)]


def _order(item: tuple[str, Path]) -> int:
    return SPLITS.index(item[0])


def _choose_encoder() -> tuple[str, str]:
    """Return the hub name of an encoder, and a comment on it."""
    here = local_encoders()
    if not here:
        return DEFAULT_ENCODER, "downloaded from the hub when it is first used"
    name = DEFAULT_ENCODER if DEFAULT_ENCODER in here else here[0]
    others = [other for other in here if other != name][:_NAMES_SHOWN]
    return name, _one_line(f"on this machine{'; also: ' + ', '.join(others) if others else ''}")


def _encoder_path(encoder: str, output: Path) -> str:
    """Return the folder of an encoder relative to the config, or its hub name."""
    return _relative(Path(encoder), output) if Path(encoder).is_dir() else encoder


def _flow(value: object) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("...\n").strip()


def _one_line(text: str) -> str:
    """Return a text that a comment can contain."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))


def _relative(path: Path, output: Path) -> str:
    return os.path.relpath(path.resolve(), output.parent.resolve())
