"""Received files: looked at, checked row by row, then saved as a dataset of the app."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from ..data import SPLITS
from ..data.guessing import FileGuess, RowReport, check_rows, guess_file, usable_rows
from ..data.guessing.columns import TEXT, TOKENS
from ..data.readers.reading_options import ReadingOptions
from ..models.type_aliases import JsonObject, Row
from ..runs.config import RunConfig
from ..runs.first_config import validation_share
from ..runtime.byte_sizes import format_bytes
from ..runtime.dataclass_yaml import to_yaml
from .workspace import DATA_CONFIG, Workspace, safe_name

MAX_UPLOAD_BYTES = 200 * 2**20
# Kept free on the disk, for checkpoints among others.
FREE_BYTES = 2**30
# A spreadsheet copies cells with tabs between them.
PASTED_NAME = "pasted.tsv"
NO_LABELS = (
    "upload: no column has labels. Choose for one of the columns that it has labels, or label some rows by hand below."
)
NO_TEXT = "upload: no column has texts. Choose for one of the columns that it is the text."


@dataclass(frozen=True)
class ReceivedFile:
    """A received file, and what is known about it.

    Args:
        path: The file.
        options: What the user has said about its form.
        roles: What the user has said about its columns.
    """

    path: Path
    options: ReadingOptions
    roles: Mapping[str, str]

    @classmethod
    def of_page(cls, values: JsonObject) -> "ReceivedFile":
        """Return the file that a page knows by ``path``, ``options`` and ``roles``."""
        return cls(Path(values["path"]), ReadingOptions(**values["options"]), values["roles"])


@dataclass(frozen=True)
class SeenFile:
    """A received file as it was understood.

    Args:
        guess: Form and columns.
        report: Numbers of rows and labels, and the problems by row.
    """

    guess: FileGuess
    report: RowReport


def look_at(workspace: Workspace, file: ReceivedFile) -> SeenFile:
    """Read a received file. One that is refused is deleted.

    Args:
        workspace: Workspace that received it.
        file: The file.

    Returns:
        What was understood of it.

    Raises:
        ValueError: If it is not a table of rows, is too large, or was not uploaded.
        OSError: If the disk is nearly full.
        ImportError: If the package that reads its format is missing.
    """
    check_received(workspace, file.path)
    try:
        guess = guess_file(file.path, file.options, file.roles)
        return SeenFile(guess, check_rows(file.path, guess))
    except (ValueError, OSError, ImportError) as error:
        if not file.roles and file.options == ReadingOptions():
            discard(workspace, file.path)
        # On the server, the folder of the file is nobody's business.
        message = str(error).replace(f"{file.path.parent}/", "")
        raise type(error)(f"upload: {message}") from error


def texts_of(workspace: Workspace, file: ReceivedFile) -> list[str]:
    """Return the texts of a received file: of its text column, or of its first column if none looks like text.

    Raises:
        ValueError: If the file cannot be read.
    """
    seen = look_at(workspace, file)
    roles = [column.role for column in seen.guess.columns]
    if TEXT not in roles and TOKENS not in roles:
        guess = guess_file(file.path, file.options, {**file.roles, seen.guess.columns[0].name: TEXT})
        seen = replace(seen, guess=guess)
    rows = usable_rows(file.path, seen.guess)
    return [str(row.get(TEXT) or " ".join(row.get(TOKENS) or ())) for row in rows]


def receive_text(workspace: Workspace, text: str) -> Path:
    """Save pasted cells as a file.

    Args:
        workspace: Workspace that receives it.
        text: Lines whose cells are separated by tabs, or by another delimiter.

    Raises:
        ValueError: If there is no text, or it is too large.
    """
    if not text or not text.strip():
        raise ValueError("upload: nothing was pasted. Copy the cells in the spreadsheet, with their header, first.")
    if len(text) > MAX_UPLOAD_BYTES:
        raise ValueError(f"upload: the pasted text is too large; allowed are {format_bytes(MAX_UPLOAD_BYTES)}.")
    folder = workspace.received_dir / uuid4().hex
    folder.mkdir()
    path = folder / PASTED_NAME
    path.write_text(text.strip("\r\n") + "\n", encoding="utf-8")
    return path


def save_data(
    workspace: Workspace,
    train: ReceivedFile,
    others: Mapping[str, str | Path | None],
    base: RunConfig,
    leave_out: bool = False,
) -> str:
    """Save received files as a dataset: the rows of each split as JSON lines, and a config that describes them.

    Args:
        workspace: Workspace to save them in.
        train: File of the training rows.
        others: Received file by split for validation and test, or None. They are read as the training rows are.
        base: Config whose encoder the new config takes over.
        leave_out: Whether to leave out rows that cannot be used.

    Returns:
        The name of the dataset.

    Raises:
        ValueError: If a file is not data, is too large or was not uploaded, or rows cannot be used. Nothing is saved
            then.
        OSError: If there is not enough space on the disk. Nothing is saved then.
    """
    files = {SPLITS[0]: train}
    for split, path in others.items():
        if path:
            # Names and roles of the columns are the same; the form of the file may be another one.
            files[split] = replace(train, path=Path(path), options=ReadingOptions(header=train.options.header))
    seen = {split: look_at(workspace, file) for split, file in files.items()}
    roles = {column.name: column.role for column in seen[SPLITS[0]].guess.columns}
    for split in list(files)[1:]:
        seen[split] = look_at(workspace, replace(files[split], roles=roles))
    for split, item in seen.items():
        _check_usable(files[split].path.name, item, leave_out)
    rows = {split: usable_rows(files[split].path, item.guess) for split, item in seen.items()}
    name = keep_rows(workspace, files[SPLITS[0]].path.name, rows, *_config_parts(seen[SPLITS[0]].guess), base)
    for file in files.values():
        discard(workspace, file.path)
    return name


def keep_rows(
    workspace: Workspace,
    name: str,
    rows: Mapping[str, Iterable[Row]],
    tasks: list[JsonObject],
    options: JsonObject,
    base: RunConfig,
) -> str:
    """Save rows as a dataset.

    Args:
        workspace: Workspace to save them in.
        name: Name of their file, which nobody has checked.
        rows: Rows by split.
        tasks: The tasks, in the form of a config.
        options: Options of the data besides the files.
        base: Config whose encoder the new config takes over.

    Returns:
        The name of the dataset.

    Raises:
        OSError: If they cannot be written. Nothing is saved then.
    """
    folder = workspace.new_folder(workspace.data_dir, safe_name(name, "data"))
    options, counts = dict(options), {}
    try:
        for split, split_rows in rows.items():
            options[split] = f"{split}.jsonl"
            counts[split] = write_jsonl(folder / options[split], split_rows)
        if SPLITS[1] not in rows:
            options["validation_split"] = validation_share(counts[SPLITS[0]])
        # Without training arguments, which are chosen from the rows.
        values = {"encoder": base.encoder, "tasks": tasks, "data": options, "output_dir": base.output_dir}
        # The config is written last: a folder without it is not a dataset.
        (folder / DATA_CONFIG).write_text(to_yaml(values), encoding="utf-8")
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder.name


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines, and return their number."""
    number = 0
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows, 1):  # noqa: B007 (the last number is returned)
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return number


def check_received(workspace: Workspace, path: Path) -> None:
    """Raise if a path is not an uploaded file, or the file is too large for the page or the disk.

    Args:
        workspace: Workspace that receives uploads.
        path: The path that a page has sent.

    Raises:
        ValueError: If the file was not uploaded or is too large.
        OSError: If the disk is nearly full.
    """
    if not path.resolve().is_relative_to(workspace.received_dir) or not path.is_file():
        raise ValueError(f"upload: {path.name!r} is not an uploaded file.")
    size = path.stat().st_size
    if size > MAX_UPLOAD_BYTES:
        discard(workspace, path)
        raise ValueError(
            f"upload: {path.name!r} has {format_bytes(size)}; allowed are {format_bytes(MAX_UPLOAD_BYTES)}. "
            "Name larger files in a config: hf-multitask app CONFIG."
        )
    free = shutil.disk_usage(workspace.root).free
    if free - size < FREE_BYTES:
        raise OSError(f"upload: the disk of {str(workspace.root)!r} is nearly full: {format_bytes(free)} are free.")


def discard(workspace: Workspace, path: Path) -> None:
    """Delete a received file, with its folder if that is empty then."""
    path.unlink(missing_ok=True)
    folder = path.parent
    if folder.resolve() != workspace.received_dir and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check_usable(name: str, seen: SeenFile, leave_out: bool) -> None:
    roles = {column.role for column in seen.guess.columns}
    if not roles & {TEXT, TOKENS}:
        raise ValueError(NO_TEXT)
    if not seen.guess.tasks:
        raise ValueError(NO_LABELS)
    if seen.report.problems and not leave_out:
        first = seen.report.problems[0]
        raise ValueError(
            f"upload: {name}: rows that cannot be used: {len(seen.report.problems)}, the first in line {first.number}"
            f": {first.problem} Mend them, or tick the box that leaves them out."
        )
    if not seen.report.usable:
        raise ValueError(f"upload: {name}: expected at least one row that can be used, found none.")


def _config_parts(guess: FileGuess) -> tuple[list[JsonObject], JsonObject]:
    """Return the tasks, and the options of rows that were read and renamed already."""
    options = {key: value for key, value in guess.data.items() if key == "label_separator"}
    return guess.tasks, options
