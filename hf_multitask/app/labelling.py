"""Rows that are labeled by hand, kept on the disk while they are labeled."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..models.tasks import SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from ..models.text_words import split_words
from ..models.type_aliases import JsonObject, Row
from ..runtime.atomic_files import read_json, write_json
from .workspace import Workspace, safe_name

CHOICE, MARKS = "choice", "marks"
TASK_NAMES = {CHOICE: "label", MARKS: "entities"}
# A few rows: each is labeled by a person, and all are written again after each label.
MAX_TEXTS = 2000
MAX_LABELS = 30


@dataclass
class LabelSheet:
    """Texts with the labels that they have so far.

    Args:
        name: Name of the sheet.
        kind: ``"choice"`` (a label per text) or ``"marks"`` (labels of words).
        labels: The labels to choose from.
        texts: The texts.
        values: By text, its label; or the label of each of its words, None for a word without one. None for a text
            that is not labeled yet.
    """

    name: str
    kind: str
    labels: list[str]
    texts: list[str]
    values: list[str | list[str | None] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = self.values or [None] * len(self.texts)

    @property
    def labeled(self) -> int:
        """Number of texts that are labeled."""
        return sum(value is not None for value in self.values)

    def first_unlabeled(self) -> int:
        """Return the index of the first text without a label; the last text if all have one."""
        return next((i for i, value in enumerate(self.values) if value is None), len(self.texts) - 1)

    def words(self, row: int) -> list[str]:
        """Return the words of a text."""
        return [word.text for word in split_words(self.texts[row])]

    def marks(self, row: int) -> list[str | None]:
        """Return the label of each word of a text."""
        value = self.values[row]
        return list(value) if isinstance(value, list) else [None] * len(self.words(row))

    def mark(self, row: int, label: str, chosen: Sequence[int]) -> None:
        """Give a label to words of a text, and take it from the others."""
        marks = [None if old == label else old for old in self.marks(row)]
        for i in chosen:
            marks[i] = label
        self.values[row] = marks

    def task(self) -> JsonObject:
        """Return the task, in the form of a config."""
        types = {CHOICE: SEQUENCE_CLASSIFICATION, MARKS: TOKEN_CLASSIFICATION}
        return {"name": TASK_NAMES[self.kind], "type": types[self.kind]}

    def rows(self) -> list[Row]:
        """Return the labeled rows. Neighboring words with the same label are one entity."""
        labeled = zip(self.texts, self.values, strict=True)
        name = TASK_NAMES[self.kind]
        return [
            {"text": text, name: list(_spans(text, value)) if isinstance(value, list) else value}
            for text, value in labeled
            if value is not None
        ]


def new_sheet(workspace: Workspace, name: str, texts: Sequence[str], kind: str, labels: str) -> LabelSheet:
    """Start a sheet.

    Args:
        workspace: Workspace that keeps it.
        name: Name of the file of the texts, which nobody has checked.
        texts: The texts; the first `MAX_TEXTS` are taken.
        kind: Kind of the labels.
        labels: The labels, separated by commas.

    Raises:
        ValueError: If there are no texts, or fewer labels than needed.
    """
    names = list(dict.fromkeys(part.strip() for part in labels.split(",") if part.strip()))
    needed = 2 if kind == CHOICE else 1
    if not needed <= len(names) <= MAX_LABELS:
        raise ValueError(
            f"labels: expected {needed} to {MAX_LABELS} names, separated by commas, such as praise, complaint; found "
            f"{len(names)}."
        )
    texts = [text for text in texts if text.strip()][:MAX_TEXTS]
    if not texts:
        raise ValueError("labels: there are no texts. Drop a file above, or paste some lines, first.")
    first = safe_name(name, "rows")
    taken, number = sheet_paths(workspace), 1
    while f"{first}-{number}" in taken:
        number += 1
    sheet = LabelSheet(f"{first}-{number}", kind, names, texts)
    save_sheet(workspace, sheet)
    return sheet


def save_sheet(workspace: Workspace, sheet: LabelSheet) -> None:
    """Write a sheet to the disk."""
    write_json(_folder(workspace) / f"{sheet.name}.json", asdict(sheet))


def load_sheet(workspace: Workspace, name: str | None) -> LabelSheet:
    """Read a sheet.

    Raises:
        ValueError: If there is no sheet of this name.
    """
    path = sheet_paths(workspace).get(name or "")
    values = None if path is None else read_json(path)
    if values is None:
        raise ValueError(f"labels: {name!r} does not exist any more. Choose another, or start again.")
    return LabelSheet(**values)


def sheet_paths(workspace: Workspace) -> dict[str, Path]:
    """Return the files of the sheets by name."""
    return {path.stem: path for path in sorted(_folder(workspace).glob("*.json"))}


def _folder(workspace: Workspace) -> Path:
    # Next to the datasets, where no model is looked for.
    folder = workspace.data_dir / "_labels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _spans(text: str, marks: Sequence[str | None]) -> Iterator[JsonObject]:
    """Yield the entities of a text from the labels of its words."""
    words = split_words(text)
    for start, label in enumerate(marks):
        if label is None or (start and marks[start - 1] == label):
            continue
        end = start
        while end + 1 < len(marks) and marks[end + 1] == label:
            end += 1
        yield {"start": words[start].start, "end": words[end].end, "label": label}
