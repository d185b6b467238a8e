"""Uploaded files: checked, then saved as a dataset of the app."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from ..data import SPLITS
from ..data.readers.file_formats import find_format
from ..data.readers.sources import open_rows
from ..models import TaskConfig
from ..models.tasks import REGRESSION, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.type_aliases import JsonObject, Row
from ..runs.config import RunConfig
from ..runtime.byte_sizes import format_bytes
from ..runtime.dataclass_yaml import to_yaml
from .workspace import DATA_CONFIG, Workspace, safe_name

MAX_UPLOAD_BYTES = 200 * 2**20
# Kept free on the disk, for checkpoints among others.
FREE_BYTES = 2**30
# Rows from which the tasks are guessed.
ROWS_CHECKED = 200
# A column with more distinct values per row than this does not contain labels.
MAX_LABELS_PER_ROW = 0.5
MIN_WORDS_PER_TEXT = 2
VALIDATION_SHARE = 0.1


def keep_upload(workspace: Workspace, files: Mapping[str, str | Path | None], base: RunConfig) -> str:
    """Check uploaded files and save them with a config that describes them.

    Args:
        workspace: Workspace to save them in.
        files: Uploaded file by split, or None for a split without one.
        base: Config whose encoder and training arguments the new config takes over.

    Returns:
        The name of the dataset.

    Raises:
        ValueError: If a file is not data, is too large or was not uploaded. Nothing is saved then.
        OSError: If there is not enough space on the disk. Nothing is saved then.
    """
    given = {split: Path(path) for split in SPLITS if (path := files.get(split))}
    if SPLITS[0] not in given:
        raise ValueError("upload: a file with training rows is missing; validation and test may be left out.")
    for path in given.values():
        _check_received(workspace, path)
    first_rows = {split: _first_rows(path) for split, path in given.items()}
    tasks, options = describe_rows(first_rows[SPLITS[0]])
    if SPLITS[1] not in given:
        options["validation_split"] = VALIDATION_SHARE
    folder = workspace.new_folder(workspace.data_dir, safe_name(given[SPLITS[0]].name, "data"))
    try:
        for split, path in given.items():
            # Named after the split: of the untrusted name, keep only the extensions, which determine the format.
            options[split] = f"{split}{''.join(path.suffixes[-2:] if path.suffix == '.gz' else path.suffixes[-1:])}"
            shutil.copyfile(path, folder / options[split])
        values = {"encoder": base.encoder, "tasks": tasks, "data": options, "training": base.training}
        text = to_yaml({**values, "output_dir": base.output_dir})
        # The config is written last: a folder without it is not a dataset.
        (folder / DATA_CONFIG).write_text(text, encoding="utf-8")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for path in given.values():
        path.unlink(missing_ok=True)
    return folder.name


def describe_rows(rows: Sequence[Row]) -> tuple[list[JsonObject], JsonObject]:
    """Guess the tasks and the text column of a file.

    Args:
        rows: Rows of the file.

    Returns:
        The tasks in the form of a config, and ``columns`` if the text is not in ``text`` or ``tokens``.

    Raises:
        ValueError: If no column looks like text, or none looks like labels.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    options: JsonObject = {}
    text_columns = [name for name in (TEXT_COLUMN, TOKENS_COLUMN) if name in columns]
    if not text_columns:
        text_columns = [_longest_texts(rows, columns)]
        options["columns"] = {TEXT_COLUMN: text_columns[0]}
    tasks = []
    for column in columns:
        kind = None if column in (*text_columns, TEXT_PAIR_COLUMN) else _task_type(column, rows)
        if kind is not None:
            name = safe_name(column, "task").replace("-", "_")
            tasks.append({"name": name, **kind, **({} if name == column else {"column": column})})
    tasks = [task for task in tasks if _is_valid(task)]
    if not tasks:
        raise ValueError(
            f"upload: none of the columns {', '.join(map(repr, columns))} looks like labels: one tag per word, a list "
            "of labels or spans, or a label that several rows share."
        )
    return tasks, options


def _check_received(workspace: Workspace, path: Path) -> None:
    if not path.resolve().is_relative_to(workspace.received_dir) or not path.is_file():
        raise ValueError(f"upload: {path.name!r} is not an uploaded file.")
    size = path.stat().st_size
    if size > MAX_UPLOAD_BYTES:
        raise ValueError(
            f"upload: {path.name!r} has {format_bytes(size)}; allowed are {format_bytes(MAX_UPLOAD_BYTES)}. "
            "Name larger files in a config: hf-multitask app CONFIG."
        )
    free = shutil.disk_usage(workspace.root).free
    if free - size < FREE_BYTES:
        raise OSError(f"upload: the disk of {str(workspace.root)!r} is nearly full: {format_bytes(free)} are free.")


def _first_rows(path: Path) -> list[Row]:
    """Read the first rows. Messages name the file without its folder on the server."""
    try:
        find_format(path, None)
        rows = [located.row for located in islice(open_rows(path), ROWS_CHECKED)]
    except (ValueError, OSError) as error:
        raise ValueError(f"upload: {str(error).replace(str(path), path.name)}") from error
    if not rows:
        raise ValueError(f"upload: {path.name}: expected at least one row, found none.")
    return rows


def _longest_texts(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return the column with the longest texts."""
    words = {
        column: sum(len(str(row.get(column) or "").split()) for row in rows) / len(rows)
        for column in columns
        if all(isinstance(row.get(column), (str, type(None))) for row in rows)
    }
    longest = max(words, key=words.__getitem__, default=None)
    if longest is None or words[longest] < MIN_WORDS_PER_TEXT:
        raise ValueError(
            f"upload: expected a column {TEXT_COLUMN!r} or {TOKENS_COLUMN!r}, or another with texts, found "
            f"{', '.join(map(repr, columns)) or 'none'}."
        )
    return longest


def _task_type(column: str, rows: Sequence[Row]) -> dict[str, str] | None:
    """Return type and problem type of the task whose labels a column contains, or None if it contains no labels."""
    labelled = [row for row in rows if row.get(column) not in (None, "")]
    values = [row[column] for row in labelled]
    if not values:
        return None
    if all(isinstance(value, list) for value in values):
        has_spans = any(isinstance(item, dict) for value in values for item in value)
        has_tags = all(len(row[column]) == len(row.get(TOKENS_COLUMN) or []) for row in labelled)
        return {"type": TOKEN_CLASSIFICATION if has_spans or has_tags else SEQUENCE_CLASSIFICATION}
    if all(isinstance(value, float) for value in values):
        return {"type": SEQUENCE_CLASSIFICATION, "problem_type": REGRESSION}
    is_label = all(isinstance(value, (str, int)) for value in values)
    if is_label and len(set(values)) <= max(2, MAX_LABELS_PER_ROW * len(values)):
        return {"type": SEQUENCE_CLASSIFICATION}
    return None


def _is_valid(task: JsonObject) -> bool:
    """Return whether a task can be named after its column. The user can add the others under another name."""
    try:
        TaskConfig.from_dict(task)
    except ValueError:
        return False
    return True
