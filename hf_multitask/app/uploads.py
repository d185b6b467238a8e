"""Files that a browser sends: checked, then kept as a dataset of the app."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..data import SPLITS
from ..data.readers.file_formats import find_format
from ..data.readers.sources import open_rows
from ..models import TaskConfig
from ..models.tasks import REGRESSION, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.type_aliases import Row
from ..runs.config import RunConfig
from ..runtime.byte_sizes import format_bytes
from ..runtime.dataclass_yaml import to_yaml
from .workspace import DATA_CONFIG, Workspace, safe_name

MAX_UPLOAD_BYTES = 200 * 2**20
# Left free on the disk, for checkpoints and all else.
FREE_BYTES = 2**30
ROWS_LOOKED_AT = 200
# A column with more different values than this share of its rows holds no labels.
MAX_LABELS_PER_ROW = 0.5
MIN_WORDS_PER_TEXT = 2
VALIDATION_SHARE = 0.1


def keep_upload(workspace: Workspace, files: Mapping[str, str | Path | None], base: RunConfig) -> str:
    """Check files that were received and keep them, with a config that says what is in them.

    Args:
        workspace: Where.
        files: By split the file received; None where there is none.
        base: A config whose encoder and training the new one takes over.

    Returns:
        The name of the dataset.

    Raises:
        ValueError: If a file is no data, too large, or none that was received. Nothing is kept then.
        OSError: If there is no room on the disk. Nothing is kept then.
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
            # Named by the split: nothing of the name that the browser gave but what tells the format.
            options[split] = f"{split}{''.join(path.suffixes[-2:] if path.suffix == '.gz' else path.suffixes[-1:])}"
            shutil.copyfile(path, folder / options[split])
        values = {"encoder": base.encoder, "tasks": tasks, "data": options, "training": base.training}
        text = to_yaml({**values, "output_dir": base.output_dir})
        # The config goes last: without it there is no dataset.
        (folder / DATA_CONFIG).write_text(text, encoding="utf-8")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for path in given.values():
        path.unlink(missing_ok=True)
    return folder.name


def describe_rows(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Guess what the columns of a file are.

    Args:
        rows: Some of its rows.

    Returns:
        The tasks, as a config holds them, and ``columns`` where the text is not under ``text`` or ``tokens``.

    Raises:
        ValueError: If there is no text, or nothing that could be labels.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    options: dict[str, Any] = {}
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
            f"upload: none of the columns {', '.join(map(repr, columns))} looks like labels: one tag a word, a list "
            "of labels or spans, or a label that several rows share."
        )
    return tasks, options


def _check_received(workspace: Workspace, path: Path) -> None:
    if not path.resolve().is_relative_to(workspace.received_dir) or not path.is_file():
        raise ValueError(f"upload: {path.name!r} is no file that was received.")
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
    """Read the first rows; messages name the file, not the folder that it was received in."""
    try:
        find_format(path, None)
        rows = [located.row for located in islice(open_rows(path), ROWS_LOOKED_AT)]
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
    """Return type and problem type of the task whose labels a column holds; None where it holds none."""
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


def _is_valid(task: dict[str, Any]) -> bool:
    """Tell whether a task can have the name of its column; others the user may add."""
    try:
        TaskConfig.from_dict(task)
    except ValueError:
        return False
    return True
